"""How a command ends: the status, one clear line, one JSON value, and never a traceback for what was expected."""

from __future__ import annotations

import json

import pytest
import typer

from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.cli.output import ExitStatus, example, exit_status, reporting, table


def _end(error: BaseException, as_json: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended, reporting(as_json):
        raise error
    return int(ended.value.exit_code)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("access.not_allowed", ExitStatus.REFUSED),
        ("consent.unknown", ExitStatus.REFUSED),
        ("custodian.stale", ExitStatus.REFUSED),
        ("receipt.invalid", ExitStatus.REFUSED),
        ("cluster.node_died", ExitStatus.REFUSED),
        ("bundle.empty", ExitStatus.BAD_INPUT),
        ("wallet.wrong_passphrase", ExitStatus.BAD_INPUT),
        ("config.missing", ExitStatus.BAD_INPUT),
        ("genesis.malformed", ExitStatus.BAD_INPUT),
        ("founding.folder_taken", ExitStatus.BAD_INPUT),
        ("cluster.missing", ExitStatus.BAD_INPUT),
        ("rpc.unreachable", ExitStatus.UNREACHABLE),
        ("rpc.timeout", ExitStatus.UNREACHABLE),
        ("cluster.not_ready", ExitStatus.UNREACHABLE),
        ("rpc.internal", ExitStatus.INTERNAL),
    ],
)
def test_the_status_tells_what_happened(
    code: str, status: ExitStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(code) is status
    assert _end(Refused(code, "the detail")) == status
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == f"error: {code}: the detail"
    assert lines[1] == f"what to do: {CATALOGUE[code].remedy}"
    assert len(lines) == 2


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_code_has_a_status_other_than_done(code: str) -> None:
    assert exit_status(code) in (1, 2, 3, 4)


def test_without_a_detail_the_cause_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _end(Refused("bundle.empty"))
    assert CATALOGUE["bundle.empty"].cause in capsys.readouterr().err


def test_a_refusal_with_json_is_one_value_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(Refused("consent.unknown", "ab"), as_json=True) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {
        "code": "consent.unknown",
        "detail": "ab",
        "cause": CATALOGUE["consent.unknown"].cause,
        "remedy": CATALOGUE["consent.unknown"].remedy,
    }


def test_a_result_that_is_a_refusal_too_stays_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with reporting(True) as report:
            report.result({"denied": 1}, lambda console: None)
            raise Refused("access.not_allowed", "no")

    with pytest.raises(typer.Exit):
        command()
    said = capsys.readouterr()
    assert json.loads(said.out) == {"denied": 1}
    assert "access.not_allowed" in said.err


def test_a_refusal_from_a_task_group_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(ExceptionGroup("tasks", [Refused("rpc.timeout", "slow")])) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_broken_invariant_is_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(InvariantBroken("roots differ")) == 4
    assert _end(ExceptionGroup("tasks", [InvariantBroken("roots differ")])) == 4
    assert "roots differ" in capsys.readouterr().err


def test_ctrl_c_is_status_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_shows_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(ZeroDivisionError("a bug")) == 4
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert "cli.internal" in said.err


def test_wrong_usage_is_left_to_the_parser() -> None:
    with pytest.raises(typer.BadParameter), reporting(False):
        raise typer.BadParameter("--watch is for people")


def test_exits_pass() -> None:
    with pytest.raises(typer.Exit) as ended, reporting(False):
        raise typer.Exit(1)
    assert ended.value.exit_code == 1


def test_brackets_and_colons_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    _end(Refused("bundle.malformed", "entry[2] [bold]x[/] did:key:z6Mk"))
    assert "entry[2] [bold]x[/] did:key:z6Mk" in capsys.readouterr().err
    with reporting(False) as report:
        report.result({}, lambda console: console.print(table("[a]", ("b",), [("did:key:z6[/]",)])))
    shown = capsys.readouterr().out
    assert "did:key:z6[/]" in shown
    assert "[a]" in shown


def test_notes_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(True) as report:
        report.note("on the way")
    assert capsys.readouterr().err == ""
    with reporting(False) as report:
        report.note("on the way")
    assert capsys.readouterr().err == "on the way\n"


def test_there_is_no_bar_where_standard_error_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(False) as report, report.progress("work") as bar:
        bar(1, 2)
    assert capsys.readouterr().err == ""


def test_examples_stand_on_lines_of_their_own() -> None:
    assert example("a") == "Example:\n\na"
    assert example("a", "b") == "Examples:\n\na\n\nb"


def test_a_halt_in_a_task_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(ExceptionGroup("tasks", [InvariantBroken("the disk is full")])) == 4
    told = capsys.readouterr().err
    assert "halted: the disk is full" in told
    assert "Traceback" not in told

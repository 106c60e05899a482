"""`consilium network` and `cluster create`: the terms that founders agree on, as people give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.node import founding, terms
from consilium.node.cli.main import app
from consilium.node.founding import Place

NAMES = ("Anna", "Chamber", "Court")


def run(*arguments: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


@pytest.fixture
def cards(tmp_path: Path) -> list[str]:
    for number, name in enumerate(NAMES):
        place = Place(f"127.0.0.1:{7100 + number}", ("127.0.0.1", 0))
        founding.make_folder(tmp_path / name, name, place, "a long passphrase", cost=founding.LOCAL_COST)
    return [str(tmp_path / name / founding.CARD_FILE) for name in NAMES]


def test_founders_name_issuers_authorities_and_settings(cards: list[str], tmp_path: Path) -> None:
    settings, out = tmp_path / "settings.toml", str(tmp_path / "genesis.json")
    settings.write_text("emergency_summaries = true\nreview_ms = 1000\n")
    court = founding.read_card(Path(cards[2])).institution.hex()
    named = ("--issuer", "Chamber", "--issuer", court, "--authority", "Court", "--settings", str(settings))
    run("network", "found", *cards, "--out", out, *named)
    shown = run("network", "show", out)
    roles = {one["institution"]: set(one["roles"]) - set(terms.ROLES) for one in shown["validators"]}
    found = {founding.read_card(Path(card)).name: card for card in cards}
    by_name = {name: roles[founding.read_card(Path(card)).institution.hex()] for name, card in found.items()}
    assert by_name == {"Anna": set(), "Chamber": {"issuer"}, "Court": {"authority", "issuer"}}
    assert (shown["settings"]["emergency_summaries"], shown["settings"]["review_ms"]) == (True, 1_000)
    assert shown["settings"]["second_person"] is True


def test_without_issuers_it_says_what_cannot_be_done(cards: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["network", "found", *cards, "--out", str(tmp_path / "g.json")])
    assert done.exit_code == 0
    assert "nobody issues credentials" in done.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--issuer", "Nobody"), "cli.bad_value"),
        (("--authority", "00" * 16), "founding.bad_terms"),
    ],
)
def test_who_is_no_founder_gets_no_role(
    cards: list[str], tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    out = tmp_path / "g.json"
    refused = run("network", "found", *cards, "--out", str(out), *arguments, status=2)
    assert refused["error"]["code"] == code
    assert not out.exists()


def test_a_cluster_has_issuers_of_its_own(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("glass_alarm_count = 1\n")
    made = run("cluster", "create", str(tmp_path / "demo"), "--nodes", "3", "--settings", str(settings))
    shown = run("network", "show", made["genesis"])
    roles = {one["institution"]: one["roles"] for one in shown["validators"]}
    issuers = ["issuer" in roles[node["institution"]] for node in made["nodes"]]
    assert issuers == [False, True, True]
    assert (shown["settings"]["glass_alarm_count"], shown["settings"]["emergency_summaries"]) == (1, True)
    settings.write_text("nonsense = 1\n")
    refused = run("cluster", "create", str(tmp_path / "x"), "--settings", str(settings), status=2)
    assert refused["error"]["code"] == "founding.bad_terms"

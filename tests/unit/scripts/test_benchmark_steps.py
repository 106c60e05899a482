"""What the benchmark measures in one process, on a chain and a state of a few keys, and how figures are shown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from scripts.benchmark import observers, report, state, steps


def test_each_step_of_a_transactions_life_has_its_time() -> None:
    options = Namespace(command="steps", transactions=4, operations=2, blocks=2, fill=8, json=False)
    told: list[str] = []
    found = steps.run(options, told.append)["median"]
    assert told == ["filling the chain"]
    assert set(found["steps_us"]) == set(found["least_us"])
    assert {steps.EXECUTE, steps.TRIE, steps.ROWS, steps.WRITE} < set(found["steps_us"])
    assert all(value > 0 for value in found["least_us"].values())
    elsewhere = sum(found["steps_us"][name] for name in steps.NOT_AT_EVERY_NODE)
    assert found["node_us"] == pytest.approx(sum(found["steps_us"].values()) - elsewhere)
    assert found["store_bytes"] > found["transaction_bytes"] > 0
    assert found["store_rows"] > 0


def test_a_state_that_grows_is_measured_at_each_size(tmp_path: Path) -> None:
    found = state.run([50, 100], blocks=4, changes=20, folder=tmp_path)
    assert [size["keys"] for size in found["sizes"]] == [50, 100]
    for size in found["sizes"]:
        assert size["bytes_per_key"] > state.VALUE_BYTES
        assert size["total_us_per_key"] >= size["trie_us_per_key"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have the priority of their process")
def test_every_thread_of_an_observer_gives_way() -> None:
    program = (
        "import threading; rest = threading.Event(); threading.Thread(target=rest.wait).start();"
        "print(flush=True); input(); rest.set()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        observers._give_way(child.pid)
        threads = psutil.Process(child.pid).threads()
        assert len(threads) == 2
        assert {os.getpriority(os.PRIO_PROCESS, one.id) for one in threads} == {observers.LOWEST_PRIORITY}
        child.communicate(b"\n")
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with pytest.raises(RuntimeError, match="does not run"):
        observers._give_way(None)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_rounds_with_delay_are_shown_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rounds = [{"tps": 900.0}, {"tps": 300.0}]
    found = {"rounds": rounds, "median": {"tps": 600.0}}
    report.show("cluster", found)
    assert "600" in capsys.readouterr().out
    report.show("cluster", found | {"median_without_delay": rounds[0], "median_with_delay": rounds[1]})
    shown = capsys.readouterr().out
    assert "median without delay" in shown
    assert shown.count("900") == shown.count("300") == 2
    assert "600" not in shown


def test_names_and_figures_are_shown_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    nodes = {f"node-{number}": 1_234_567.0 for number in range(4)}
    rounds = [{"cpu_us_per_transaction": {"nodes": nodes}} for _ in range(5)]
    report.show("cluster", {"rounds": rounds, "median": rounds[0]})
    shown = capsys.readouterr().out
    for node in nodes:
        assert f"cpu_us_per_transaction.nodes.{node}" in shown
    assert shown.count("1,234,567") == 6 * 4


def test_what_only_a_later_round_saw_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [{"refused": {}, "failed": 0}, {"refused": {"mempool.full": 77}, "failed": 0}]
    report.show("cluster", {"rounds": rounds, "median": {"refused": {}, "failed": 0}})
    shown = capsys.readouterr().out
    assert "refused.mempool.full" in shown
    assert "77" in shown


def test_what_delay_left_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [{"tps": 900.0}, {"tps": 300.0}]
    medians = {"median": {"tps": 600.0}, "median_without_delay": rounds[0], "median_with_delay": rounds[1]}
    report.show("cluster", {"rounds": rounds, **medians, "delayed_to_plain": 0.333})
    assert "delayed_to_plain 0.333" in capsys.readouterr().out


def test_a_state_is_not_asked_to_change_more_keys_than_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        state.main(["--keys", "10", "--changes", "20", "--blocks", "4"])
    assert "--changes" in capsys.readouterr().err

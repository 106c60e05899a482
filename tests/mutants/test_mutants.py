"""The maker of faults: each is real, placed once, drawn by the seed alone, and one that nobody notices is reported."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from scripts import _mutants
from tests.mutants.catalogue import Mutant, at_random, by_hand, chosen, drawn_files, equivalents
from tests.mutants.ground import PROJECT, Ground, Suite
from tests.mutants.operators import draw, every, places

SOURCE = '''
"""A docstring with 1 and 2."""
LIMIT: Final = 3
KIND: TypeAlias = int | str


class Thing:
    __slots__ = ("a",)

    def rule(self, n: int = 0) -> bool:
        """Not 4."""
        if n < LIMIT and not self.done:
            self.first()
            self.second()
        _log.warning("seen", count=7)
        if n == 5:
            raise ValueError(f"{n + 8} is too many")
        return any(one > n for one in self.all[:n])
'''


@pytest.fixture
def faults(tmp_path: Path):
    (tmp_path / "thing.py").write_text(SOURCE)
    return every(tmp_path, ["thing.py"])


def test_faults_are_what_the_operators_say(faults) -> None:
    changes = {fault.name.removeprefix("thing.py ") for fault in faults}
    assert changes == {
        "module: 3 -> (4)",
        "module: 3 -> (2)",
        "Thing: 0 -> (1)",
        "Thing.rule: n < LIMIT and (not self.done) -> (not (n < LIMIT and (not self.done)))",
        "Thing.rule: n < LIMIT and (not self.done) -> (n < LIMIT or not self.done)",
        "Thing.rule: n < LIMIT and (not self.done) -> (not self.done)",
        "Thing.rule: n < LIMIT and (not self.done) -> (n < LIMIT)",
        "Thing.rule: n < LIMIT -> (n <= LIMIT)",
        "Thing.rule: n < LIMIT -> (n >= LIMIT)",
        "Thing.rule: not self.done -> (self.done)",
        "Thing.rule: self.first() -> pass",
        "Thing.rule: self.second() -> pass",
        "Thing.rule: self.first(); self.second() -> self.second(); self.first()",
        "Thing.rule: n == 5 -> (n != 5)",
        "Thing.rule: 5 -> (6)",
        "Thing.rule: 5 -> (4)",
        "Thing.rule: raise ValueError(f'{n + 8} is too many') -> pass",
        "Thing.rule: any((one > n for one in self.all[:n])) -> (all((one > n for one in self.all[:n])))",
        "Thing.rule: one > n -> (one >= n)",
        "Thing.rule: one > n -> (one <= n)",
        "Thing.rule: self.all[:n] -> (self.all)",
    }


def test_a_fault_changes_its_place_and_nothing_else(faults) -> None:
    for fault in faults:
        faulty = fault.apply(SOURCE.encode())
        assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(SOURCE))
        assert faulty[: fault.start] == SOURCE.encode()[: fault.start]
        assert faulty.endswith(SOURCE.encode()[fault.end :])
        assert SOURCE.encode()[: fault.start].count(b"\n") + 1 == fault.line


def test_all_faults_of_the_project_compile_and_have_names_of_their_own() -> None:
    found = every(PROJECT, drawn_files(PROJECT))
    assert len({fault.name for fault in found}) == len(found)
    for fault in draw(found, 0)[:200]:
        compile(fault.apply((PROJECT / fault.file).read_bytes()), fault.file, "exec")
    assert dict(places(found)).keys() >= {"consensus/replica.py", "storage/promise.py", "node/driver.py"}


def test_the_draw_follows_the_seed() -> None:
    names = [[one.name for one in at_random(PROJECT, 20, seed).mutants] for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_what_was_chosen_by_hand_has_its_place() -> None:
    mutants = by_hand(PROJECT)
    assert len(mutants) >= 16
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        whole = (PROJECT / mutant.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(mutant.faulty)) != ast.dump(ast.parse(whole)), mutant.name
        if mutant.test:
            file, _, name = mutant.test.partition("::")
            assert f"def {name}(" in (PROJECT / file).read_text(encoding="utf-8"), mutant.name


def test_equivalents_are_still_places_and_have_reasons() -> None:
    names = {fault.name for fault in every(PROJECT, drawn_files(PROJECT))}
    for name, reason in equivalents().items():
        assert name in names, f"{name} is no place any more: strike it"
        assert len(reason) > 20


def test_an_equivalent_is_listed_and_another_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (one.name for one in at_random(PROJECT, 2, 1).mutants)
    monkeypatch.setattr("tests.mutants.catalogue.equivalents", lambda: {first: "it is none"})
    again = at_random(PROJECT, 2, 1)
    assert [one["name"] for one in again.equivalent][:1] == [first]
    assert again.mutants[0].name == second
    assert len(again.mutants) == 2


def test_names_choose() -> None:
    mutants = by_hand(PROJECT)
    assert [one.name for one in chosen(mutants, ["ring"])] == ["the ring overwrites its newest slot"]
    assert chosen(mutants, []) == mutants


@pytest.fixture(scope="module")
def ground():
    with Ground() as made:
        yield made


def pytest_of(name: str) -> tuple[Suite, ...]:
    path = f"tests/unit/consensus/test_timers.py::{name}"
    return (Suite("one", ("pytest", "-x", "--tb=no", "-p", "no:cacheprovider", path)),)


def fault_in_timers(find: str, text: str) -> Mutant:
    source = (PROJECT / "consensus" / "timers.py").read_text(encoding="utf-8")
    assert source.count(find) == 1
    return Mutant("planted", "hand", "consensus/timers.py", 1, source.replace(find, text).encode())


FIRED_TWICE = ("        del self._at[kind]\n        return True, []", "        return True, []")


def test_a_fault_that_is_noticed_is_killed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mutants, "suites_for", lambda file: pytest_of("test_a_timer_fires_once_at_its_time"))
    fate = _mutants.judge(ground, fault_in_timers(*FIRED_TWICE))
    assert (fate.suite, fate.hung) == ("one", False)
    assert fate.killer.endswith("::test_a_timer_fires_once_at_its_time")
    assert ground.read("consensus/timers.py") == (PROJECT / "consensus" / "timers.py").read_bytes()


def test_a_fault_that_nobody_notices_survives(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _mutants, "suites_for", lambda file: pytest_of("test_nothing_runs_while_the_host_commits")
    )
    fate = _mutants.judge(ground, fault_in_timers(*FIRED_TWICE))
    assert fate.suite == ""
    assert importlib.util.find_spec("consilium.consensus.timers") is not None


def test_what_would_not_run_the_copy_is_no_verdict(ground: Ground) -> None:
    """`inside.py` refuses where imports lead elsewhere; and a suite that cannot start kills nothing."""
    inside = ground.root / "tests" / "mutants" / "inside.py"
    kept = inside.read_text()
    inside.write_text(kept.replace("Path(sys.argv[1]).resolve()", "Path('/nowhere')"))
    try:
        with pytest.raises(RuntimeError, match="comes from"):
            ground.run(pytest_of("test_a_timer_fires_once_at_its_time")[0])
    finally:
        inside.write_text(kept)
    with pytest.raises(RuntimeError, match="not with a verdict"):
        ground.run(pytest_of("test_that_is_not_there")[0])


def test_a_suite_that_hangs_is_stopped(ground: Ground) -> None:
    waits = ground.root / "tests" / "test_waits.py"
    waits.write_text("import threading\n\n\ndef test_waits():\n    threading.Event().wait()\n")
    run = ground.run(Suite("hangs", ("pytest", "--timeout=1", "tests/test_waits.py")))
    assert run.failed
    assert run.hung
    run = ground.run(Suite("hangs", ("pytest", "--timeout=0", "tests/test_waits.py")), timeout_s=5)
    assert run.failed
    assert run.hung
    waits.unlink()

"""A short walk through the divisions of five hosts, and proof that it finds faults. Long ones: `scripts/twins`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from consilium.consensus import messages, replica, view_change
from consilium.consensus.messages import Claim, Justification, ViewChange, prepared_at
from consilium.consensus.promise import Promise, Votes, promise_view_change
from consilium.consensus.view_change import Mandate, mandate
from tests.conftest import PROJECT
from tests.simulation.twins.half import Council, Cut, Half
from tests.simulation.twins.portrait import Painter
from tests.simulation.twins.sample import draw, read, run_plainly, write
from tests.simulation.twins.snapshot import duplicate
from tests.simulation.twins.walk import CUTS, View, Walk, two_way

TWO_VIEWS = 16**2
"""Divisions of five hosts into two parts, twice."""


def test_two_views_hold_in_every_way() -> None:
    walk = Walk(Council(4, (0,)), cuts_max=1)
    walk.deepen()
    depth = walk.deepen()
    assert depth.scenarios == [TWO_VIEWS, 2 * len(CUTS) * TWO_VIEWS]
    assert depth.complete
    assert depth.states + depth.merged < sum(depth.scenarios)
    assert depth.heights == 2
    healed, _, _ = walk.heal(150)
    assert healed > 100
    assert walk.failures == []
    assert walk.council.equivocations > 0
    reached = {state.portrait for state in walk.layer}
    chance, divisions = random.Random(7), two_way(5)
    for _ in range(20):
        views: list[View] = [(chance.choice(divisions), Cut.WHOLE) for _ in range(2)]
        views[chance.randrange(2)] = (chance.choice(divisions), chance.choice(CUTS))
        assert run_plainly(Council(4, (0,)), views, heal=False).portrait in reached, write(views)


def test_the_divisions_of_five_hosts() -> None:
    divisions = two_way(5)
    assert len(divisions) == len({*divisions}) == 16
    assert all(
        sorted(host for part in division for host in part) == [0, 1, 2, 3, 4] for division in divisions
    )


def test_a_walk_that_is_limited_says_so() -> None:
    walk = Walk(Council(4, (1,)), cuts_max=0, states_max=9)
    depth = walk.deepen()
    assert (depth.states, depth.complete) == (9, False)
    assert not walk.deepen().complete


def test_a_walk_is_the_same_in_another_process_with_another_hash_seed() -> None:
    command = [
        sys.executable,
        str(PROJECT / "scripts" / "_twins.py"),
        "--views",
        "2",
        "--json",
        "--plain",
        "5",
    ]
    printed = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    first, second = (json.loads(text) for text in printed)
    assert (first["scenarios"], first["violations"], first["different"]) == (TWO_VIEWS, 0, 0)
    assert first["result"] == second["result"]


@pytest.mark.parametrize("ways", [2, 3])
def test_seven_validators_with_two_twins_hold(ways: int) -> None:
    council, chance = Council(7, (0, 2)), random.Random(ways)
    for _ in range(3):
        views = draw(9, 4, ways, chance)
        ran = run_plainly(council, views)
        assert ran.violation is None, f"{write(views)}\n" + "\n".join(ran.story)


def test_a_scenario_is_written_and_read() -> None:
    views = draw(5, 4, 3, random.Random(1))
    assert read(write(views)) == views


# Faults that are planted, and must be found ------------------------------------------------------------------------


def _violations(council: Council, cuts_max: int, views: int, heal: bool = False) -> list[str]:
    walk = Walk(council, cuts_max)
    for _ in range(views):
        # Without a cut in the first view these faults take longer walks to show.
        walk.layer = [state for state in walk.layer if not state.path or state.cuts == cuts_max]
        walk.deepen()
    if heal:
        walk.heal(20)
    return [failure.violation for failure in walk.failures]


def test_a_quorum_that_is_too_small_is_found() -> None:
    council = Council(4, (0,))
    council.validators.quorum -= 1
    found = _violations(council, 0, 1)
    assert any(violation.startswith("agreement") for violation in found)


def test_a_forgotten_lock_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(promise: Promise, view: int) -> Promise:
        votes = promise_view_change(promise, view).votes
        return Promise(Votes(votes.height, votes.view, votes.changed, None, None, None), [])

    monkeypatch.setattr(replica, "promise_view_change", forget)
    assert any(violation.startswith("agreement") for violation in _violations(Council(4, (0,)), 1, 2))


def test_an_ignored_certificate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the new primary nor those who judge its proposal ask what was prepared."""

    def afresh(changes: list[tuple[int, ViewChange]], quorum: int) -> Mandate | None:
        given = mandate(changes, quorum)
        return None if given is None else Mandate(Justification(given.justification.claims, None), None)

    monkeypatch.setattr(replica, "mandate", afresh)
    monkeypatch.setattr(messages, "verify_justification", lambda *_: None)
    assert any(violation.startswith("agreement") for violation in _violations(Council(4, (0,)), 1, 2))


TWO_CERTIFICATES = "03/124:one-prepares,0134/2:one-decides,03/124:whole"
"""One host prepares a block in view 0; in view 1 another block is decided by one host; then the others go on without
it. Found by a walk of three views with two cuts, with the fault below."""


def test_a_lower_certificate_that_wins_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = run_plainly(Council(4, (0,)), read(TWO_CERTIFICATES))
    assert sound.violation is None

    def lowest(changes: list[tuple[int, ViewChange]], quorum: int) -> Mandate | None:
        if len(changes) < quorum:
            return None
        ranked = sorted(
            changes, key=lambda one: (one[1].prepared.certificate.view if one[1].prepared else -1, one[0])
        )[:quorum]
        claims = [Claim(i, prepared_at(change.prepared), change.signature) for i, change in sorted(ranked)]
        proven = [change.prepared for _, change in ranked if change.prepared is not None]
        if not proven:
            return Mandate(Justification(claims, None), None)
        return Mandate(Justification(claims, proven[0].certificate), proven[0].block)

    monkeypatch.setattr(replica, "mandate", lowest)
    monkeypatch.setattr(messages, "verify_justification", lambda *_: None)
    ran = run_plainly(Council(4, (0,)), read(TWO_CERTIFICATES))
    assert ran.violation is not None
    assert ran.violation.startswith("agreement")


def test_replicas_that_leave_others_behind_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica.Replica, "_hear_height", lambda *_: None)
    found = _violations(Council(4, (0,)), 0, 1, heal=True)
    assert any(violation.startswith("progress") for violation in found)


# The walk's own tools ----------------------------------------------------------------------------------------------


def test_a_copy_goes_its_own_way() -> None:
    council = Council(4, (0,))
    hosts = [council.begin(index) for index in range(5)]
    Half(council, hosts, Cut.UNSEALED).run()
    painter = Painter(council.validators)
    before = [host.portrait(painter).name for host in hosts]
    copies = [host.copy() for host in hosts]
    assert [host.portrait(painter).name for host in copies] == before
    half = Half(council, copies, Cut.WHOLE)
    half.rest()
    half.run()
    painter.forget()
    assert [host.portrait(painter).name for host in hosts] == before
    assert all(a != b for a, b in zip([host.portrait(painter).name for host in copies], before, strict=True))


def test_what_is_not_known_is_not_shared() -> None:
    with pytest.raises(TypeError):
        duplicate({1: bytearray(b"something that changes")})
    with pytest.raises(TypeError):
        Painter(Council(4, (0,)).validators).portrait([bytearray()], [], 0)


def test_views_of_these_walks_all_take_the_same_time() -> None:
    """What `date_back` forgets rests on it."""
    from tests.simulation.twins.half import CONFIG

    assert view_change.view_timeout_ms(CONFIG, 0) == view_change.view_timeout_ms(CONFIG, 9)
    assert CONFIG.resend_ms == CONFIG.resend_first_ms

"""Timers: which run when, and that late or early fires do nothing."""

from __future__ import annotations

import pytest

from consilium.consensus.io import CancelTimer, Now, SetTimer, TimerKind
from consilium.consensus.limits import HEARTBEAT_GRACE_MS, ReplicaConfig
from consilium.consensus.round import Phase, Proposal, open_round
from consilium.consensus.timers import Standing, Timers, wanted_timers
from consilium.ledger.block import HEARTBEAT_MS
from tests.unit.consensus.parts import BLOCK, CONTEXT, TIME_MS, context_of

CONFIG = ReplicaConfig()
NOW = Now(1_000, TIME_MS + 100)
IDLE = Standing(speaks=True, is_primary=False, work=False, any_ahead=False)
BUSY = Standing(speaks=True, is_primary=False, work=True, any_ahead=False)


def test_a_timer_fires_once_at_its_time() -> None:
    timers = Timers()
    assert timers.want(TimerKind.VIEW, 500) == [SetTimer(TimerKind.VIEW, 500)]
    assert timers.want(TimerKind.VIEW, 900) == []  # a running one keeps its time
    assert timers.fired(TimerKind.VIEW, 500) == (True, [])
    assert timers.fired(TimerKind.VIEW, 501) == (False, [])


def test_a_fire_before_its_time_sets_it_again() -> None:
    timers = Timers()
    timers.want(TimerKind.RESEND, 500)
    assert timers.fired(TimerKind.RESEND, 499) == (False, [SetTimer(TimerKind.RESEND, 500)])


def test_a_cancelled_timer_does_not_fire() -> None:
    timers = Timers()
    timers.want(TimerKind.VIEW, 500)
    assert timers.want(TimerKind.VIEW, None) == [CancelTimer(TimerKind.VIEW)]
    assert timers.want(TimerKind.VIEW, None) == []
    assert timers.fired(TimerKind.VIEW, 600) == (False, [])
    timers.want(TimerKind.VIEW, 700)
    assert timers.restart() == [CancelTimer(TimerKind.VIEW)]


def wanted(phase: Phase, standing: Standing = BUSY, now: Now = NOW) -> dict[TimerKind, int | None]:
    here = open_round(CONTEXT, None, None, 0, 0)
    here.phase = phase
    if phase in (Phase.HOLDING, Phase.PREPARING, Phase.COMMITTING):
        here.proposal = Proposal(BLOCK, own=False)
    return dict(wanted_timers(here, standing, now, CONFIG))


@pytest.mark.parametrize("phase", [Phase.AWAITING, Phase.HOLDING, Phase.PREPARING, Phase.COMMITTING])
def test_the_view_timer_runs_in_a_view_where_progress_is_expected(phase: Phase) -> None:
    assert wanted(phase)[TimerKind.VIEW] == NOW.monotonic_ms + CONFIG.view_timeout_ms


@pytest.mark.parametrize("phase", [Phase.CHANGING, Phase.DECIDING])
def test_the_view_timer_does_not_run_before_a_quorum_is_there_nor_once_it_is_decided(phase: Phase) -> None:
    assert wanted(phase)[TimerKind.VIEW] is None
    assert wanted(phase)[TimerKind.RESEND] == NOW.monotonic_ms + CONFIG.resend_first_ms


def test_an_idle_replica_waits_for_the_heartbeat_only() -> None:
    timers = wanted(Phase.AWAITING, IDLE)
    due = HEARTBEAT_MS + HEARTBEAT_GRACE_MS - 100
    assert timers == {
        TimerKind.VIEW: None,
        TimerKind.RESEND: None,
        TimerKind.HEARTBEAT: NOW.monotonic_ms + due,
    }
    primary = Standing(speaks=True, is_primary=True, work=False, any_ahead=False)
    assert wanted(Phase.AWAITING, primary)[TimerKind.HEARTBEAT] == NOW.monotonic_ms + HEARTBEAT_MS - 100


def test_the_heartbeat_runs_only_in_a_view_where_nothing_is_under_way() -> None:
    assert wanted(Phase.CHANGING, IDLE)[TimerKind.HEARTBEAT] is None
    assert wanted(Phase.DECIDING, IDLE)[TimerKind.HEARTBEAT] is None
    here = open_round(CONTEXT, None, None, 0, 0)
    here.building = True
    assert dict(wanted_timers(here, IDLE, NOW, CONFIG))[TimerKind.HEARTBEAT] is None


def test_an_overdue_heartbeat_is_progress_to_expect() -> None:
    late = Now(1_000, TIME_MS + HEARTBEAT_MS + HEARTBEAT_GRACE_MS)
    assert wanted(Phase.AWAITING, IDLE, late)[TimerKind.VIEW] is not None


def test_after_work_a_certifying_block_is_expected() -> None:
    here = open_round(context_of(batches_root=b"w" * 32), None, None, 0, 0)
    assert dict(wanted_timers(here, IDLE, NOW, CONFIG))[TimerKind.VIEW] is not None


def test_who_may_not_speak_runs_no_view_timer() -> None:
    silent = Standing(speaks=False, is_primary=False, work=True, any_ahead=False)
    assert wanted(Phase.PREPARING, silent)[TimerKind.VIEW] is None
    assert wanted(Phase.PREPARING, silent)[TimerKind.HEARTBEAT] is None


def test_nothing_runs_while_the_host_commits() -> None:
    here = open_round(CONTEXT, None, None, 0, 0)
    here.announced = True
    assert dict(wanted_timers(here, BUSY, NOW, CONFIG)) == dict.fromkeys(TimerKind)


def test_failures_lengthen_the_view_timer() -> None:
    here = open_round(CONTEXT, None, None, 2, 0)
    assert dict(wanted_timers(here, BUSY, NOW, CONFIG))[TimerKind.VIEW] == NOW.monotonic_ms + 1_350

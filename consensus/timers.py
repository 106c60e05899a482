"""The three timers: when each should run, and their deadlines, so that a late or repeated fire does nothing.

After every step the machine says which timers its state calls for; only differences become effects. The view timer
runs only while there is a reason to expect progress and a quorum is known to be in the view or above; the timer of a
view that nobody else wants never starts (Castro & Liskov 1999, §4.5.2). docs/consensus.md, "Timers".
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.consensus.io import CancelTimer, Now, SetTimer, TimerKind
from consilium.consensus.limits import HEARTBEAT_GRACE_MS, ReplicaConfig
from consilium.consensus.round import Phase, Round
from consilium.consensus.view_change import view_timeout_ms


class Timers:
    """Deadlines by kind, in monotonic milliseconds."""

    __slots__ = ("_at", "_timed_view")

    def __init__(self) -> None:
        self._at: dict[TimerKind, int] = {}
        self._timed_view: int | None = None
        """The view that the view timer was set for."""

    def fired(self, kind: TimerKind, monotonic_ms: int) -> tuple[bool, list[SetTimer]]:
        """Whether the timer was set and is due; then it is no longer set. A fire before its time sets it again."""
        due = self._at.get(kind)
        if due is None:
            return False, []
        if monotonic_ms < due:
            return False, [SetTimer(kind, due)]
        del self._at[kind]
        return True, []

    def want(self, kind: TimerKind, at_ms: int | None) -> list[SetTimer | CancelTimer]:
        """Start the timer if it is not running, or cancel it where None is wanted. A running one keeps its time."""
        if at_ms is None:
            return [CancelTimer(kind)] if self._at.pop(kind, None) is not None else []
        if kind in self._at:
            return []
        self._at[kind] = at_ms
        return [SetTimer(kind, at_ms)]

    def keep(
        self, here: Round, standing: Standing, now: Now, config: ReplicaConfig
    ) -> list[SetTimer | CancelTimer]:
        """Have exactly the timers that the state calls for; the view timer anew where the view is another."""
        effects: list[SetTimer | CancelTimer] = []
        if self._timed_view != here.view:
            self._timed_view = here.view
            effects += self.want(TimerKind.VIEW, None)
        for kind, at_ms in wanted_timers(here, standing, now, config):
            effects += self.want(kind, at_ms)
        return effects

    def restart(self) -> list[SetTimer | CancelTimer]:
        """Cancel all, so that the next wishes start them afresh."""
        return [effect for kind in TimerKind for effect in self.want(kind, None)]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the wish for timers depends on beside the round. `speaks`: may vote here."""

    speaks: bool
    is_primary: bool
    work: bool
    any_ahead: bool


def wanted_timers(
    here: Round, standing: Standing, now: Now, config: ReplicaConfig
) -> list[tuple[TimerKind, int | None]]:
    """For each kind, when it would fire if it started now, or None where it must not run."""
    if here.announced:
        return [(kind, None) for kind in TimerKind]
    expects = expects_progress(here, standing, now)
    views = standing.speaks and expects and here.phase not in (Phase.CHANGING, Phase.DECIDING)
    stuck = here.phase is Phase.DECIDING or (standing.speaks and (expects or here.phase is Phase.CHANGING))
    resends = stuck or here.heard is not None or standing.any_ahead
    beats = standing.speaks and here.phase is Phase.AWAITING and not expects and not here.building
    due = here.context.heartbeat_due_ms + (0 if standing.is_primary else HEARTBEAT_GRACE_MS)
    in_ms = {
        TimerKind.VIEW: view_timeout_ms(config, here.failures) if views else None,
        TimerKind.RESEND: (config.resend_ms if here.resent else config.resend_first_ms) if resends else None,
        # The wall clock may jump: never sooner than a resend, and the due time is looked at again then.
        TimerKind.HEARTBEAT: max(due - now.wall_ms, config.resend_ms) if beats else None,
    }
    return [(kind, None if ms is None else now.monotonic_ms + ms) for kind, ms in in_ms.items()]


def expects_progress(here: Round, standing: Standing, now: Now) -> bool:
    """Whether a block should be decided soon: there is work, a root to certify, a heartbeat overdue, or a proposal."""
    return (
        standing.work
        or here.context.owes_certificate
        or now.wall_ms >= here.context.heartbeat_due_ms + HEARTBEAT_GRACE_MS
        or here.proposal is not None
        or here.book.pre_prepare(here.view, here.context.primary(here.view)) is not None
    )

"""Copying and dating back a replica, so that a walk can branch anywhere and go on from there.

A replica is a tree of a few living objects, dicts and lists whose leaves are immutable. Every type in it must be known
here, as living or as still: an unknown one is an error, so that nothing that changes is ever shared between branches.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from consilium.consensus.limits import ANSWER_EVERY_MS, CATCH_UP_EVERY_MS
from consilium.consensus.messages import VerifiedMessage
from consilium.consensus.neighbours import Neighbours
from consilium.consensus.replica import Replica
from consilium.consensus.round import Round
from consilium.consensus.timers import Timers
from consilium.consensus.votes import Tally, VoteBook
from consilium.ledger.crypto import SigningKey
from consilium.ledger.validators import ValidatorSet

LIVING: tuple[type, ...] = (Replica, Round, VoteBook, Tally, Neighbours, Timers)
"""What changes in place."""
PLAIN: tuple[type, ...] = (int, bytes, bool, str, type(None))

_slots: dict[type, tuple[str, ...]] = {}
_still: dict[type, bool] = {}


def fields(living: Any) -> tuple[str, ...]:
    """The names of all its attributes, in one order."""
    kind = type(living)
    known = _slots.get(kind)
    if known is None:
        known = tuple(sorted({name for one in kind.__mro__ for name in getattr(one, "__slots__", ())}))
        _slots[kind] = known
    return known or tuple(living.__dict__)


def is_frozen(kind: type) -> bool:
    """Whether it is a frozen Struct or dataclass."""
    if issubclass(kind, msgspec.Struct):
        return bool(kind.__struct_config__.frozen)
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _is_still(kind: type) -> bool:
    """Whether values of this type never change."""
    return (
        kind in PLAIN
        or kind in (VerifiedMessage, ValidatorSet)
        or issubclass(kind, Enum | SigningKey)
        or is_frozen(kind)
    )


def duplicate(value: Any) -> Any:
    """A copy that shares only what never changes. Raises TypeError for a type that is not known."""
    kind = type(value)
    if kind in _still:
        return value
    if kind is dict:
        return {key: item if type(item) in _still else duplicate(item) for key, item in value.items()}
    if kind is list:
        return [duplicate(item) for item in value]
    if kind is tuple:
        return tuple(duplicate(item) for item in value)
    if kind in LIVING:
        made = object.__new__(kind)
        for name in fields(value):
            item = getattr(value, name)
            object.__setattr__(made, name, item if type(item) in _still else duplicate(item))
        return made
    if _is_still(kind):
        _still[kind] = True
        return value
    raise TypeError(f"a replica holds a {kind.__name__}: is it living or still?")


def date_back(replica: Replica, now_ms: int, by_ms: int) -> None:
    """Move all that the replica remembers of monotonic time into the past, and forget what no longer matters.

    Only differences of monotonic times mean anything: this is what passing time does to a replica. Forgotten are: when
    the height began, and answers and questions, since their periods are over; how often views failed and whether it has
    resent, since they choose timeouts, which are all the same in these walks; who was reported, and the prepares of
    views that it has left, since both are of use for reports only. `now_ms` is the time that will be next.
    """
    here, neighbours, timers = replica._round, replica._neighbours, replica._timers
    timers._at = {kind: at - by_ms for kind, at in timers._at.items()}
    here.opened_ms = 0
    here.failures = 0
    here.resent = False
    here.reported = {}
    prepares = here.book.prepares
    prepares._votes = [
        {view: vote for view, vote in votes.items() if view >= here.view} for votes in prepares._votes
    ]
    answered = {peer: at - by_ms for peer, at in neighbours._answered.items()}
    neighbours._answered = {peer: at for peer, at in answered.items() if now_ms < at + ANSWER_EVERY_MS}
    asked = None if neighbours._asked is None else neighbours._asked - by_ms
    neighbours._asked = None if asked is None or now_ms >= asked + CATCH_UP_EVERY_MS else asked

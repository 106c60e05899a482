"""The receipts that tests are made on: a chain that never changed its validators, one that did, and every kind."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import Operation
from consilium.node.receipts import ReceiptBuilder
from tests.unit.ledger.world import World, council, found, put, validator

KEY = b"consent/1"
ABSENT = b"consent/2"
GRANTED_AT, REVOKED_AT = 1, 4


class Case(NamedTuple):
    """A receipt, what it is checked with, and what it must prove."""

    name: str
    genesis: Genesis
    trusted: bytes | None
    receipt: bytes
    proves: dict[str, object]


@cache
def quiet() -> World:
    """Four validators, never changed: what took effect, what was refused, what was revoked later, idle blocks."""
    world = found(council(4))
    world.block(
        [world.sign("first", put((KEY, b"granted"))), world.sign("second", put((b"x", b"y"), name="refuse"))],
        [world.sign("third", put((b"k", b"v"), name="tell"), put((b"l", b"w")))],
    )
    world.idle(2)
    world.block([world.sign("fourth", put((KEY, b"revoked")))], view=3, skip=1)
    world.idle(3)
    return world


@cache
def restless() -> World:
    """Validators come, go, change their institution, and at last are the founders again."""
    founders = council(4)
    world = found(founders)
    world.block([world.sign("granted", put((KEY, b"granted")))])  # height 1
    world.change_set("five", [*founders, validator("fifth")])  # asked at 2, handed over by 3, voting from 4
    world.change_set("other", [*founders[1:], validator("fifth", "another")])
    world.block([world.sign("revoked", put((KEY, b"revoked")))])
    world.change_set("new", council(7, "new"))
    world.change_set("back", founders)
    world.idle(2)
    return world


@cache
def large() -> World:
    """Seventeen validators, long names, bodies and lists: wide heads of MessagePack."""
    world = found(
        council(17, "many"),
        "a network with a name of more than thirty-one letters",
        [put((b"g", b"h" * 300))],
    )
    operation = Operation("an-operation-of-more-than-thirty-one-letters", bytes(300))
    world.block(
        [
            world.sign("long", operation, operation),
            *(world.sign(f"other {n}", put((b"n", b"%d" % n))) for n in range(3)),
        ]
    )
    world.block([world.sign("results", *[put((b"r%d" % n, b"s" * 300)) for n in range(20)])])
    world.idle()
    return world


def builder(world: World) -> ReceiptBuilder:
    return ReceiptBuilder(world.store, world.genesis)


def header_hash(world: World, height: int) -> bytes:
    return world.store.header(height).hash


@cache
def cases() -> list[Case]:
    """One receipt of every kind, the smallest that there are."""
    calm, wild = quiet(), restless()
    first, refused, third = (seen for seen in calm.store.transactions(GRANTED_AT).ids)
    build, wild_build = builder(calm), builder(wild)
    top = wild.store.tip.height
    changed = wild.store.set_changes(0, top)
    last_change = changed[-1]

    def calm_case(name: str, receipt: bytes, **proves: object) -> Case:
        return Case(name, calm.genesis, None, receipt, proves)

    def wild_case(name: str, receipt: bytes, trusted: int | None, **proves: object) -> Case:
        trusted_hash = None if trusted is None else header_hash(wild, trusted)
        return Case(name, wild.genesis, trusted_hash, receipt, {"trusted_height": trusted, **proves})

    grand = large()
    grand_build = builder(grand)
    long, results = grand.store.transactions(1).ids[0], grand.store.transactions(2).ids[0]
    state = {"kind": "state", "key": KEY}
    return [
        calm_case(
            "transaction", build.transaction(third), kind="transaction", transaction_id=third, height=1
        ),
        calm_case("verdict ok", build.verdict(first), kind="verdict", transaction_id=first, height=1),
        calm_case(
            "verdict refused", build.verdict(refused), kind="verdict", transaction_id=refused, height=1
        ),
        calm_case("state present", build.state(KEY, 3), **state, value=b"granted", height=3),
        calm_case("state later", build.state(KEY, None), **state, value=b"revoked", height=6),
        calm_case("state absent", build.state(ABSENT, 3), kind="state", key=ABSENT, value=None, height=3),
        calm_case(
            "verdict extended", build.extend(build.verdict(first)), kind="verdict", height=1, top_height=7
        ),
        wild_case(
            "state after changes",
            wild_build.state(KEY, top - 1),
            None,
            **state,
            value=b"revoked",
            set_changes=4,
        ),
        wild_case(
            "state from a trusted start",
            wild_build.state(KEY, last_change + 1, since=changed[2]),
            changed[2],
            **state,
            value=b"revoked",
            set_changes=1,
        ),
        wild_case(
            "state under a trusted top",
            wild_build.state(KEY, 1, since=top),
            top,
            **state,
            value=b"granted",
            height=1,
            top_height=top,
            set_changes=0,
        ),
        wild_case(
            "state by a set between",
            wild_build.state(KEY, changed[1] + 1),
            None,
            **state,
            value=b"granted",
            set_changes=2,
        ),
        Case("verdict of many", grand.genesis, None, grand_build.verdict(long), {"transaction_id": long}),
        Case(
            "transaction of many",
            grand.genesis,
            None,
            grand_build.transaction(long),
            {"transaction_id": long},
        ),
        Case(
            "verdict with results",
            grand.genesis,
            None,
            grand_build.verdict(results),
            {"transaction_id": results},
        ),
        Case("state of genesis", grand.genesis, None, grand_build.state(b"g", 0), {"value": b"h" * 300}),
    ]

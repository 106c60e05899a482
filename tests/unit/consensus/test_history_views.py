"""What broke others, in whole councils: stalls after locks, long pauses, lost quorums and lost disks.

Each test bears the name of the fault it stands for; docs/consensus.md, "What broke others". Time is simulated.
"""

from __future__ import annotations

from collections.abc import Iterable

from consilium.consensus.io import Advanced, VoteFloor
from consilium.consensus.limits import RESEND_MS, VIEW_TIMEOUT_MAX_MS
from consilium.consensus.messages import Prepare, PrePrepare, ViewChange
from consilium.consensus.replica import Replica
from consilium.consensus.restart import NEVER, Answer, Memory, judge
from tests.simulation.chain import Chain
from tests.simulation.council import Council, Wire
from tests.simulation.world import WALL_EPOCH_MS

HOUR_MS = 3_600_000
STEP_MS = 250


def heights(council: Council, who: Iterable[int]) -> list[int]:
    return [council.seats[index].replica.height for index in who]


def heal(council: Council, who: Iterable[int], within_ms: int, height: int = 2) -> int:
    """Deliver everything from now on; returns after how long these stand at `height` at least."""
    who = list(who)
    began_ms = council.now_ms
    while council.now_ms - began_ms <= within_ms:
        council.deliver()
        if min(heights(council, who)) >= height:
            return council.now_ms - began_ms
        council.wait(STEP_MS)
    raise AssertionError(f"nothing was decided within {within_ms} ms: " + "; ".join(council.states()))


def lock(council: Council, view: int, who: int, group: list[int]) -> str:
    """In this view, of all in `group` only `who` sees a quorum prepare; then all of them give the view up.

    Returns the name of the block. Nothing reaches those outside of the group.
    """

    def inside(wire: Wire) -> bool:
        return wire.source in group and wire.target in group

    council.deliver(lambda wire: inside(wire) and isinstance(wire.message, ViewChange))
    council.deliver(lambda wire: inside(wire) and isinstance(wire.message, PrePrepare))
    council.deliver(lambda wire: inside(wire) and isinstance(wire.message, Prepare) and wire.target == who)
    for _ in range(100):
        council.drop(lambda wire: not isinstance(wire.message, ViewChange) or not inside(wire))
        if all(council.seats[index].replica.view > view for index in group):
            break
        council.wait(100)
    promise = council.seats[who].promise
    assert promise is not None
    assert promise.prepared is not None
    assert promise.prepared.certificate.view == view
    return council.name(promise.prepared.block.hash)


# Locks --------------------------------------------------------------------------------------------------------------


def test_quorum_305_conflicting_locks() -> None:
    """IBFT in Quorum: two nodes locked on different blocks, the third stopped, and no round could win any more.
    Here a lock is a claim, not a vow: the highest proved one is proposed again, and all vote for it."""
    council = Council(4)
    council.start()
    first = lock(council, 0, 3, [0, 1, 2, 3])
    council.drop(lambda wire: 3 in (wire.source, wire.target))
    second = lock(council, 1, 1, [0, 1, 2])
    assert first != second
    council.crash(0)
    heal(council, [1, 2, 3], 3 * VIEW_TIMEOUT_MAX_MS)
    assert council.name(council.agreed[1]) == second


def test_eip_650_deadlock_of_the_revision() -> None:
    """The revision of EIP-650 kept its locks, and a few of them in turn made every further round fail (2002.03613).
    Here three locks of three views on three blocks, with f stopped, still end with the highest of them."""
    council = Council(7)
    council.start()
    blocks = []
    for view, who in enumerate((6, 5, 4)):
        group = list(range(7 - view))
        outside = [index for index in range(7) if index not in group]
        council.drop(lambda wire, cut=tuple(outside): wire.source in cut or wire.target in cut)  # type: ignore[misc]
        blocks.append(lock(council, view, who, group))
    assert len(set(blocks)) == 3
    council.crash(0)
    council.crash(1)
    heal(council, range(2, 7), 5 * VIEW_TIMEOUT_MAX_MS)
    assert council.name(council.agreed[1]) == blocks[2]


def test_besu_6613_a_stall_with_fewer_than_a_third_down() -> None:
    """QBFT in Besu, two of seven down: the next proposer proposed another block than the prepared one, and was refused.
    Here the proposal is taken from the justification itself, so the two cannot differ."""
    council = Council(7)
    council.start()
    block = lock(council, 0, 6, list(range(7)))
    council.crash(0)
    council.crash(5)
    council.drop(lambda wire: wire.source in (0, 5))
    heal(council, (1, 2, 3, 4, 6), 3 * VIEW_TIMEOUT_MAX_MS)
    assert council.name(council.agreed[1]) == block


# Long pauses --------------------------------------------------------------------------------------------------------


def test_besu_7642_round_timers_of_an_hour() -> None:
    """QBFT in Besu doubles its round timer without end: after a bad night the next round is due in an hour.
    Here it grows by halves up to a cap: whatever went before, a dead primary costs at most the cap."""
    council = Council(4)
    council.start()
    while council.now_ms < HOUR_MS:
        council.deliver(lambda wire: isinstance(wire.message, ViewChange))
        council.drop()
        council.wait(3_000)
    views = [seat.replica.view for seat in council.seats]
    assert min(views) > 100
    council.deliver(lambda wire: isinstance(wire.message, ViewChange))
    dead = council.seat_of(council.seats[0].replica.primary)
    council.crash(dead)
    alive = [index for index in range(4) if index != dead]
    council.drop()
    took_ms = heal(council, alive, HOUR_MS)
    assert took_ms <= VIEW_TIMEOUT_MAX_MS + 2 * RESEND_MS


def test_besu_7642_views_run_away_in_a_minority() -> None:
    """There, nodes without a quorum went on to ever higher rounds, each alone, and found each other no more.
    Here the timer of a view runs only once a quorum wants it: an hour apart is one view apart."""
    council = Council(4)
    council.start()
    council.drop()
    ended_ms = council.now_ms + HOUR_MS
    while council.now_ms < ended_ms:
        council.deliver(lambda wire: (wire.source < 2) == (wire.target < 2))
        council.drop()
        council.wait(5_000)
    assert max(seat.replica.view for seat in council.seats) <= 1
    assert heal(council, range(4), HOUR_MS) <= 2 * RESEND_MS


def test_indy_plenum_1488_perpetual_view_change_after_a_pause() -> None:
    """Two of four were paused for half an hour; then every new view failed, for the old batch bore an old time.
    Here a block that a justification demands is not asked for its time."""
    council = Council(4)
    council.start()
    council.deliver(lambda wire: isinstance(wire.message, PrePrepare))
    council.deliver(lambda wire: isinstance(wire.message, Prepare) and wire.target == 0)
    council.drop()
    for index in (2, 3):
        council.seats[index].alive = False
    paused_until_ms = council.now_ms + HOUR_MS // 2
    while council.now_ms < paused_until_ms:
        council.deliver()
        council.wait(5_000)
    promise = council.seats[0].promise
    assert promise is not None
    assert promise.prepared is not None
    for index in (2, 3):
        council.seats[index].alive = True
    assert heal(council, range(4), HOUR_MS) <= VIEW_TIMEOUT_MAX_MS
    assert council.agreed[1] == promise.prepared.block.hash


# A lost disk --------------------------------------------------------------------------------------------------------


def test_besu_8307_a_validator_with_fresh_data() -> None:
    """A Besu validator that came back without its data never took part again, and a chain that needed it stood still.
    Here the others pass it by while it is silent, and three heights later it votes: another one may then stop."""
    council = Council(4)
    council.start()
    council.deliver()
    fresh = council.seat_of(council.seats[0].replica.primary)
    rest = [index for index in range(4) if index != fresh]
    seat, other = council.seats[fresh], council.seats[rest[0]]
    council.crash(fresh)
    seat.promise = None
    seat.chain = Chain(council.validators, council._subset, WALL_EPOCH_MS)
    seat.replica = Replica(seat.key, seat.chain.context(), None, council.config, NEVER)
    seat.alive = True
    council.start(fresh)
    tip = other.chain.tip
    answers = {council.seats[index].key.public: Answer(council.seats[index].chain.tip) for index in range(4)}
    verdict = judge(None, answers, (council.validators, council.validators))
    assert verdict is not None
    assert (verdict.memory, verdict.floor) == (Memory.LOST, tip + 3)
    for entry in other.chain.entries[1:]:  # its host catches up
        assert entry.block is not None
        assert entry.certificate is not None
        seat.chain.commit(entry.block, entry.certificate, entry.batches)
    council.step(fresh, Advanced(seat.chain.context(), False))
    council.step(fresh, VoteFloor(verdict.floor))
    council.work("one")
    heal(council, range(4), VIEW_TIMEOUT_MAX_MS, tip + 3)
    council.crash(rest[0])
    alive = [fresh, *rest[1:]]
    council.work("two", *alive)
    heal(council, alive, 2 * VIEW_TIMEOUT_MAX_MS, tip + 4)

"""The pool: bounded, and bounded per author; nothing of an author's share is another's; nothing leaves twice."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger.batch import BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, verify_batch
from consilium.ledger.block import BLOCK_BATCHES_MAX, BLOCK_PAYLOAD_BYTES_MAX, BLOCK_TRANSACTIONS_MAX
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import VALIDITY_MAX_MS, Operation
from consilium.ledger.weight import BATCH_WEIGHT_MAX, BLOCK_WEIGHT_MAX, TRANSACTION_WEIGHT_MAX
from consilium.node import mempool as pools
from consilium.node.mempool import Mempool, MempoolLimits, is_spent
from consilium.node.room import PROPOSED_WEIGHT_MAX
from tests.unit.node.harness import START_MS, VALID_MS, Harness

HEAVY = "no.such.heavy"
"""An operation whose body's length is its weight."""
NOBODY: frozenset[bytes] = frozenset()
STEPS = ["admit", "seal", "peer", "commit", "expire"]


def weigh(operation: Operation) -> int:
    return len(operation.body) if operation.name == HEAVY else 1


def heavy(harness: Harness, weight: int):
    """A transaction of this weight."""
    parts = [min(10_000, weight - at) for at in range(0, weight, 10_000)]
    return harness.transaction(harness.wallets[0], *(Operation(HEAVY, bytes(part)) for part in parts))


def pool_of(harness: Harness, limits: MempoolLimits | None = None, index: int = 0) -> Mempool:
    return Mempool(harness.keys[index], harness.chain_id, limits or MempoolLimits(), 1, weigh)


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


def of_size(harness: Harness, size: int):
    """A transaction of about so many bytes."""
    bodies = [Operation("no.such", bytes(min(16_000, size - at))) for at in range(0, size, 16_000)]
    return harness.transaction(harness.wallets[0], *bodies)


# --- admission ------------------------------------------------------------------------------------------------------


def test_a_transaction_is_admitted_once(solo: Harness) -> None:
    pool = pool_of(solo)
    one = solo.transaction(solo.wallets[0])
    pool.admit(one, START_MS)
    with pytest.raises(Refused) as refused:
        pool.admit(one, START_MS)
    assert code_of(refused) == "transaction.duplicate"
    assert (pool.pending_count, pool.transaction_count, pool.knows(one.id)) == (1, 1, True)
    assert pool.valid_until(one.id) == START_MS + VALID_MS


@pytest.mark.parametrize(
    ("valid_until", "code"),
    [
        (START_MS, "transaction.expired"),
        (START_MS + 1, None),
        (START_MS + VALIDITY_MAX_MS, None),
        (START_MS + VALIDITY_MAX_MS + 1, "transaction.too_far_ahead"),
    ],
)
def test_validity_is_half_open_and_bounded(solo: Harness, valid_until: int, code: str | None) -> None:
    pool = pool_of(solo)
    one = solo.transaction(solo.wallets[0], valid_until=valid_until)
    if code is None:
        pool.admit(one, START_MS)
        return
    with pytest.raises(Refused) as refused:
        pool.admit(one, START_MS)
    assert code_of(refused) == code
    assert pool.transaction_count == 0


def test_what_waits_is_bounded_in_number(solo: Harness) -> None:
    pool = pool_of(solo, MempoolLimits(pending_transactions_max=2))
    for _ in range(2):
        pool.admit(solo.transaction(solo.wallets[0]), START_MS)
    with pytest.raises(Refused) as refused:
        pool.admit(solo.transaction(solo.wallets[0]), START_MS)
    assert code_of(refused) == "mempool.full"


def test_what_waits_is_bounded_in_bytes(solo: Harness) -> None:
    one, two = of_size(solo, 3_000), of_size(solo, 3_000)
    pool = pool_of(solo, MempoolLimits(pending_bytes_max=len(one.raw) + len(two.raw) - 1))
    pool.admit(one, START_MS)
    with pytest.raises(Refused) as refused:
        pool.admit(two, START_MS)
    assert code_of(refused) == "mempool.full"
    assert pool.bytes_held == len(one.raw)


def test_what_expired_makes_room(solo: Harness) -> None:
    pool = pool_of(solo, MempoolLimits(pending_transactions_max=1))
    old = solo.transaction(solo.wallets[0], valid_until=START_MS + 10)
    pool.admit(old, START_MS)
    assert pool.forget_expired(START_MS + 9) == []
    assert pool.forget_expired(START_MS + 10) == [old.id]
    assert not pool.knows(old.id)
    pool.admit(solo.transaction(solo.wallets[0]), START_MS)


# --- sealing --------------------------------------------------------------------------------------------------------


def test_nothing_pending_seals_nothing(solo: Harness) -> None:
    assert pool_of(solo).seal(1) is None


def test_batches_are_sealed_in_order_of_admission_and_differ(solo: Harness) -> None:
    pool = pool_of(solo)
    given = [solo.transaction(solo.wallets[0]) for _ in range(3)]
    for one in given:
        pool.admit(one, START_MS)
    batch = pool.seal(1)
    assert batch is not None
    assert [t.id for t in batch.transactions] == [t.id for t in given]
    assert pool.pending_count == 0
    assert pool.transaction_count == 3
    pool.admit(again := solo.transaction(solo.wallets[0]), START_MS)
    other = pool.seal(1)
    assert other is not None
    assert [t.id for t in other.transactions] == [again.id]
    assert other.digest != batch.digest


def test_a_full_batch_keeps_the_limits_of_a_batch(solo: Harness) -> None:
    pool = pool_of(solo)
    sizes = [125_000] * 8 + [15_000, 40_000, 1_000]
    for size in sizes:
        pool.admit(of_size(solo, size), START_MS)
    first = pool.seal(1)
    assert first is not None
    assert len(first.raw) <= BATCH_BYTES_MAX
    verify_batch(first.raw, solo.chain_id)
    assert 0 < pool.pending_count < len(sizes)


def test_a_batch_has_only_so_many_transactions(solo: Harness) -> None:
    pool = pool_of(solo)
    for _ in range(BATCH_TRANSACTIONS_MAX + 1):
        pool.admit(solo.transaction(solo.wallets[0]), START_MS)
    first = pool.seal(1)
    assert first is not None
    assert len(first.transactions) == BATCH_TRANSACTIONS_MAX
    assert pool.pending_count == 1


def test_own_batches_have_a_share_too(solo: Harness) -> None:
    pool = pool_of(solo, MempoolLimits(batches_per_author_max=1))
    pool.admit(solo.transaction(solo.wallets[0]), START_MS)
    assert pool.seal(1) is not None
    pool.admit(solo.transaction(solo.wallets[0]), START_MS)
    assert pool.seal(1) is None
    assert pool.pending_count == 1


# --- peers' batches -------------------------------------------------------------------------------------------------


def test_one_author_cannot_take_anothers_share(four: Harness) -> None:
    pool = pool_of(four, MempoolLimits(batches_per_author_max=2))
    for _ in range(2):
        assert pool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
    third = four.batch([four.transaction(four.wallets[0])], author=1)
    assert not pool.may_add(third.author, len(third.raw))
    with pytest.raises(Refused) as refused:
        pool.add_batch(third, 1)
    assert code_of(refused) == "mempool.author_full"
    other = four.batch([four.transaction(four.wallets[0])], author=2)
    assert pool.may_add(other.author, len(other.raw))
    assert pool.add_batch(other, 1)
    assert not pool.add_batch(other, 1)


def test_a_first_batch_beyond_the_bytes_of_a_share_is_refused(four: Harness) -> None:
    pool = pool_of(four, MempoolLimits(batch_bytes_per_author_max=10))
    with pytest.raises(Refused) as refused:
        pool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
    assert code_of(refused) == "mempool.author_full"


def test_what_a_proposal_names_is_kept_beyond_the_share_until_the_height_is_decided(four: Harness) -> None:
    pool = pool_of(four, MempoolLimits(batches_per_author_max=1))
    own = four.batch([four.transaction(four.wallets[0])], author=1)
    guest = four.batch([four.transaction(four.wallets[0])], author=1)
    pool.add_batch(own, 1)
    pool.want([guest.digest])
    assert pool.add_batch(guest, 1)
    assert pool.batch(guest.digest) is guest
    pool.committed([], [], 1, START_MS, NOBODY)
    assert pool.batch(guest.digest) is None
    assert pool.batch(own.digest) is own
    assert not pool.knows(guest.transactions[0].id)


def test_the_memory_of_guests_goes_with_each_height(four: Harness) -> None:
    """A primary that proposes what it never lets be decided must not fill the pool, height after height."""
    pool = pool_of(four, MempoolLimits(batches_per_author_max=1))
    pool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
    held = pool.bytes_held
    for height in range(1, 6):
        guest = four.batch([four.transaction(four.wallets[0])], author=1)
        pool.want([guest.digest])
        pool.add_batch(guest, height)
        pool.committed([], [], height, START_MS, NOBODY)
    assert pool.bytes_held == held


def test_wishes_end_with_the_height_and_are_remembered(four: Harness) -> None:
    pool = pool_of(four)
    pool.want([b"a" * 32])
    assert (pool.is_wanted(b"a" * 32), pool.was_wanted(b"a" * 32), pool.asked(b"a" * 32)) == (True, False, 0)
    pool.want([b"a" * 32])
    assert pool.asked(b"a" * 32) == 1
    pool.committed([], [], 1, START_MS, NOBODY)
    assert (pool.is_wanted(b"a" * 32), pool.was_wanted(b"a" * 32)) == (False, True)


def test_wishes_are_bounded_and_the_newest_counts(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "WANTED_MAX", 3)
    monkeypatch.setattr(pools, "WANTED_BEFORE_MAX", 2)
    pool = pool_of(four)
    names = [bytes([number]) * 32 for number in range(8)]
    pool.want(names)
    assert [name for name in names if pool.is_wanted(name)] == names[5:]
    assert [name for name in names if pool.was_wanted(name)] == names[3:5]


def test_pinned_batches_stay_at_hand_whatever_becomes_of_the_pool(four: Harness) -> None:
    pool = pool_of(four)
    spent = four.batch([four.transaction(four.wallets[0], valid_until=START_MS + 1)], author=1)
    pool.pin([spent], height=3)
    assert pool.missing([spent.digest]) == []
    assert pool.batch(spent.digest) is spent
    assert not pool.has_work
    assert pool.choose() == []
    pool.committed([], [], 2, START_MS + 5, NOBODY)
    assert pool.batch(spent.digest) is spent
    pool.committed([spent.digest], [], 3, START_MS + 6, NOBODY)
    assert pool.batch(spent.digest) is None


# --- after a block --------------------------------------------------------------------------------------------------


def test_a_block_takes_its_batches_and_what_it_included(four: Harness) -> None:
    pool = pool_of(four)
    pool.admit(twice := four.transaction(four.wallets[0]), START_MS)
    pool.admit(alone := four.transaction(four.wallets[0]), START_MS)
    batch = four.batch([twice], author=1)
    pool.add_batch(batch, 1)
    pool.committed([batch.digest], [twice.id], 1, START_MS + 1, frozenset([twice.id]))
    assert (pool.batch_count, pool.pending_count) == (0, 1)
    assert pool.knows(alone.id)
    assert not pool.knows(twice.id)


def test_spent_batches_go_and_unspent_ones_stay(four: Harness) -> None:
    pool = pool_of(four)
    included, expiring, fresh = (
        four.transaction(four.wallets[0], valid_until=START_MS + at) for at in (50, 5, 50)
    )
    spent = four.batch([included, expiring], author=1)
    half = four.batch([included, fresh], author=2)
    pool.add_batch(spent, 1)
    pool.add_batch(half, 1)
    seen = frozenset([included.id])
    assert not is_spent(spent, START_MS + 4, seen)
    assert is_spent(spent, START_MS + 5, seen)
    pool.committed([], [], 1, START_MS + 5, seen)
    assert pool.batch(spent.digest) is None
    assert pool.batch(half.digest) is half
    assert not pool.knows(expiring.id)
    assert pool.knows(included.id)  # the half-spent batch still holds it


def test_a_transaction_held_twice_is_known_until_the_last_goes(four: Harness) -> None:
    pool = pool_of(four)
    one = four.transaction(four.wallets[0])
    batches = [four.batch([one], author=author) for author in (1, 2, 3)]
    pool.admit(one, START_MS)
    for batch in batches:
        pool.add_batch(batch, 1)
    for height, batch in enumerate(batches, start=1):
        assert pool.knows(one.id)
        pool.committed([batch.digest], [], height, START_MS, NOBODY)
    assert pool.knows(one.id)
    pool.committed([], [one.id], 4, START_MS, NOBODY)
    assert not pool.knows(one.id)
    assert pool.bytes_held == 0


# --- weight ---------------------------------------------------------------------------------------------------------


def test_a_transaction_that_is_too_heavy_is_not_admitted(solo: Harness) -> None:
    pool = pool_of(solo)
    pool.admit(heavy(solo, TRANSACTION_WEIGHT_MAX), START_MS)
    with pytest.raises(Refused) as refused:
        pool.admit(heavy(solo, TRANSACTION_WEIGHT_MAX + 1), START_MS)
    assert code_of(refused) == "transaction.too_heavy"
    assert pool.pending_count == 1


def test_no_more_is_sealed_than_a_batch_may_weigh(solo: Harness) -> None:
    pool = pool_of(solo)
    most = BATCH_WEIGHT_MAX // 3  # in three transactions, with one light one
    for weight in (most, most, BATCH_WEIGHT_MAX - 2 * most, 1):
        pool.admit(heavy(solo, weight), START_MS)
    sealed = [pool.seal(1), pool.seal(1), pool.seal(1)]
    assert [len(batch.transactions) for batch in sealed if batch is not None] == [3, 1]


def test_a_batch_that_is_too_heavy_is_not_kept(four: Harness) -> None:
    pool = pool_of(four)
    parts = [50_000] * (BATCH_WEIGHT_MAX // 50_000)
    most = four.batch([heavy(four, part) for part in parts], author=1)
    over = four.batch([*most.transactions, heavy(four, 1)], author=1)
    assert pool.add_batch(most, 1)
    pool.want([over.digest])
    with pytest.raises(Refused) as refused:
        pool.add_batch(over, 1)
    assert code_of(refused) == "batch.too_heavy"
    assert pool.batch(over.digest) is None


def test_a_chosen_block_keeps_the_weight_of_a_block(four: Harness) -> None:
    pool = pool_of(four)
    part = 50_000
    heavy_ones = [four.batch([heavy(four, part)] * 4, author=author) for author in (1, 2, 3, 1, 2, 3)]
    light = four.batch([four.transaction(four.wallets[0])], author=0)
    for one in [*heavy_ones, light]:
        pool.add_batch(one, 1)
    chosen = [batch for digest in pool.choose() if (batch := pool.batch(digest)) is not None]
    assert light in chosen  # an author whose heavy batch does not fit does not stop the others
    assert sum(map(pool.weight, chosen)) <= PROPOSED_WEIGHT_MAX
    assert len(chosen) == 1 + (PROPOSED_WEIGHT_MAX - 1) // (4 * part)
    pool.committed([batch.digest for batch in chosen], [], 1, START_MS, NOBODY)
    assert pool.choose() == [batch.digest for batch in heavy_ones if batch not in chosen][: len(chosen) - 1]


def test_any_batch_alone_can_be_proposed_and_what_is_proposed_is_no_more_than_a_block_may_weigh() -> None:
    assert BATCH_WEIGHT_MAX <= PROPOSED_WEIGHT_MAX <= BLOCK_WEIGHT_MAX


def test_what_was_postponed_is_sealed_again_by_who_sealed_it(four: Harness) -> None:
    pool = pool_of(four)
    done, postponed, of_another = (four.transaction(four.wallets[0]) for _ in range(3))
    late = four.transaction(four.wallets[0], valid_until=START_MS)
    own, others = four.batch([done, postponed, late], author=0), four.batch([of_another], author=1)
    for batch in (own, others):
        pool.add_batch(batch, 1)
    pool.committed([own.digest, others.digest], [done.id], 1, START_MS, NOBODY)
    pool.take_back([own, others], frozenset([postponed.id, late.id, of_another.id]), START_MS)
    again = pool.seal(2)
    assert again is not None
    assert again.transactions == (postponed,)


def test_what_was_postponed_loses_no_place(four: Harness) -> None:
    """Behind what came since it would be postponed again, as long as others send faster than blocks execute."""
    pool = pool_of(four)
    postponed = [four.transaction(four.wallets[0]) for _ in range(4)]
    since = four.transaction(four.wallets[0])
    batches = [four.batch(postponed[:2], author=0), four.batch(postponed[2:], author=0)]
    for batch in batches:
        pool.add_batch(batch, 1)
    pool.admit(since, START_MS)
    pool.committed([batch.digest for batch in batches], [], 1, START_MS, NOBODY)
    pool.take_back(batches, frozenset([one.id for one in postponed]), START_MS)
    again = pool.seal(2)
    assert again is not None
    assert again.transactions == (*postponed, since)


def test_what_was_postponed_is_sealed_again_even_where_another_has_it_in_a_batch(four: Harness) -> None:
    """Who copies what others sealed, and never seals it again, keeps nobody's transaction out of the chain."""
    pool = pool_of(four)
    postponed = four.transaction(four.wallets[0])
    own, copied = four.batch([postponed], author=0), four.batch([postponed], author=1)
    for batch in (own, copied):
        pool.add_batch(batch, 1)
    pool.committed([own.digest], [], 1, START_MS, NOBODY)
    pool.take_back([own], frozenset([postponed.id]), START_MS)
    pool.take_back([own], frozenset([postponed.id]), START_MS)  # once is enough
    pool.committed([copied.digest], [], 2, START_MS, NOBODY)
    assert pool.pending_count == pool.transaction_count == 1
    again = pool.seal(2)
    assert again is not None
    assert again.transactions == (postponed,)


# --- choosing -------------------------------------------------------------------------------------------------------


def test_authors_take_turns(four: Harness) -> None:
    pool = pool_of(four)
    greedy = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(70)]
    modest = [four.batch([four.transaction(four.wallets[0])], author=2) for _ in range(2)]
    for batch in [*greedy, *modest]:
        pool.add_batch(batch, 1)
    chosen = pool.choose()
    assert len(chosen) == BLOCK_BATCHES_MAX
    assert chosen[:4] == [greedy[0].digest, modest[0].digest, greedy[1].digest, modest[1].digest]
    assert chosen[4:] == [batch.digest for batch in greedy[2 : BLOCK_BATCHES_MAX - 2]]


def test_each_author_leads_in_its_turn_while_blocks_postpone(four: Harness) -> None:
    """Whose batch comes first is executed first: who has always older ones would have the block's weight for itself."""
    pool = pool_of(four)
    greedy = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(4)]
    modest = [four.batch([four.transaction(four.wallets[0])], author=author) for author in (2, 3)]
    for batch in [*greedy, *modest]:
        pool.add_batch(batch, 1)
    led = []
    for height in range(4):
        chosen = pool.choose()
        led.append(chosen[0])
        first = pool.batch(chosen[0])
        assert first is not None
        pool.committed(chosen[:1], [], height + 2, START_MS + height, NOBODY)
        pool.take_back([first], frozenset([bytes(32)] if height else []), START_MS + height)
    # The first block had room for everything, so it cost nobody a turn.
    assert led == [one.digest for one in (greedy[0], greedy[1], *modest)]
    late = four.batch([four.transaction(four.wallets[0])], author=2)
    pool.add_batch(late, 6)
    assert pool.choose() == [greedy[2].digest, late.digest, greedy[3].digest]  # it led longer ago


def test_a_chosen_block_keeps_the_limits_of_a_block(four: Harness) -> None:
    pool = pool_of(four)
    big = [
        four.batch([of_size(four, 120_000) for _ in range(8)], author=author) for author in (1, 2, 3, 1, 2)
    ]
    small = four.batch([four.transaction(four.wallets[0])], author=3)
    for batch in [*big, small]:
        pool.add_batch(batch, 1)
    chosen = [pool.batch(digest) for digest in pool.choose()]
    assert sum(len(batch.raw) for batch in chosen if batch is not None) <= BLOCK_PAYLOAD_BYTES_MAX
    assert small in chosen  # an author whose large batch does not fit does not stop the others


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=24))
def test_a_choice_is_in_each_authors_order_and_without_repetition(plan: list[tuple[int, int]]) -> None:
    four = Harness(4)
    pool = pool_of(four)
    of_author: dict[bytes, list[bytes]] = {}
    for author, count in plan:
        batch = four.batch([four.transaction(four.wallets[0]) for _ in range(count)], author=author)
        pool.add_batch(batch, 1)
        of_author.setdefault(batch.author, []).append(batch.digest)
    chosen = pool.choose()
    assert max(Counter(chosen).values(), default=1) == 1
    assert len(chosen) == min(len(plan), BLOCK_BATCHES_MAX)
    for digests in of_author.values():
        assert [digest for digest in chosen if digest in digests] == digests[: len(digests)]
    # In turns: while an author still waits, no other is two ahead of it.
    taken: Counter[bytes] = Counter()
    for digest in chosen:
        (author_key,) = (key for key, digests in of_author.items() if digest in digests)
        taken[author_key] += 1
        for key, digests in of_author.items():
            assert taken[author_key] - taken[key] <= 1 or taken[key] == len(digests)
    assert sum(count for _, count in plan) <= BLOCK_TRANSACTIONS_MAX


# --- what is passed over --------------------------------------------------------------------------------------------


def test_our_own_batches_are_offered_again_ever_more_seldom(four: Harness) -> None:
    pool = pool_of(four)
    pool.admit(four.transaction(four.wallets[0]), START_MS)
    own = pool.seal(1)
    pool.add_batch(four.batch([four.transaction(four.wallets[0])], author=1), 1)
    offered = [tick for tick in range(20) if own in pool.overdue()]
    assert offered == [4, 8, 16]


def test_a_batch_that_nobody_decides_is_censored(four: Harness) -> None:
    pool = pool_of(four)
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    pool.add_batch(batch, 5)
    assert pool.waiting_since(36, 32) is None
    assert pool.waiting_since(37, 32) == batch.digest


def test_a_long_queue_that_moves_is_not_censored(four: Harness) -> None:
    pool = pool_of(four)
    queue = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(50)]
    for batch in queue:
        pool.add_batch(batch, 1)
    for height in range(1, 50):
        pool.committed([queue[height - 1].digest], [], height, START_MS, NOBODY)
        assert pool.waiting_since(height + 1, 32) is None
    assert pool.waiting_since(49 + 32, 32) == queue[49].digest


def test_passing_over_one_batch_of_an_author_is_noticed(four: Harness) -> None:
    pool = pool_of(four)
    unwelcome = four.batch([four.transaction(four.wallets[0])], author=1)
    pool.add_batch(unwelcome, 1)
    for height in range(1, 33):
        other = four.batch([four.transaction(four.wallets[0])], author=1)
        pool.add_batch(other, height)
        pool.committed([other.digest], [], height, START_MS, NOBODY)
    assert pool.waiting_since(33, 32) == unwelcome.digest


def test_what_went_spent_does_not_count_as_passed_over(four: Harness) -> None:
    pool = pool_of(four)
    shared = four.transaction(four.wallets[0])
    pool.add_batch(four.batch([shared], author=1), 1)
    pool.add_batch(behind := four.batch([four.transaction(four.wallets[0])], author=1), 1)
    pool.committed([], [], 30, START_MS, frozenset([shared.id]))
    assert pool.waiting_since(40, 32) is None
    assert pool.waiting_since(62, 32) == behind.digest


# --- the whole ------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "seal", "peer", "commit", "expire"]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_the_books_always_balance(steps: list[tuple[str, int]]) -> None:
    """Against a dumb twin: what is known and held is the union of what pending and batches hold."""
    four = Harness(4)
    pool = pool_of(four)
    pending: dict[bytes, int] = {}
    batches: dict[bytes, list[bytes]] = {}
    raws: dict[bytes, int] = {}
    sizes: dict[bytes, int] = {}
    made = []
    now_ms = START_MS
    for height, (step, number) in enumerate(steps, start=1):
        if step == "admit":
            one = four.transaction(four.wallets[0], valid_until=now_ms + 2 + number)
            made.append(one)
            pool.admit(one, now_ms)
            pending[one.id], sizes[one.id] = one.value.valid_until, len(one.raw)
        elif step == "seal" and (sealed := pool.seal(height)) is not None:
            batches[sealed.digest] = [t.id for t in sealed.transactions]
            raws[sealed.digest] = len(sealed.raw)
            pending.clear()
        elif step == "peer" and made:
            batch = four.batch(made[-1 - number :], author=1)
            pool.add_batch(batch, height)
            batches[batch.digest], raws[batch.digest] = [t.id for t in batch.transactions], len(batch.raw)
        elif step == "commit" and batches:
            digest = list(batches)[number % len(batches)]
            included = batches.pop(digest)
            pool.committed([digest], included, height, now_ms, NOBODY)
            for identifier in included:
                pending.pop(identifier, None)
            until: dict[bytes, int] = {t.id: t.value.valid_until for t in made}
            batches = {d: held for d, held in batches.items() if any(until[i] > now_ms for i in held)}
        elif step == "expire":
            now_ms += 1
            gone = pool.forget_expired(now_ms)
            assert sorted(gone) == sorted(i for i, until in pending.items() if until <= now_ms)
            pending = {i: until for i, until in pending.items() if until > now_ms}
        known = {*pending, *(i for held in batches.values() for i in held)}
        assert pool.transaction_count == len(known)
        assert all(pool.knows(identifier) for identifier in known)
        assert pool.pending_count == len(pending)
        assert pool.batch_count == len(batches)
        assert pool.bytes_held == sum(sizes[i] for i in pending) + sum(raws[d] for d in batches)


def test_only_so_many_of_our_own_are_sealed_ahead_of_the_blocks(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilium.node.mempool.SEALED_AHEAD_MAX", 2)
    monkeypatch.setattr("consilium.node.mempool.BATCH_TRANSACTIONS_MAX", 1)
    pool = pool_of(four)
    for _ in range(3):
        pool.admit(four.transaction(four.wallets[0]), START_MS)
    first, second = pool.seal(1), pool.seal(1)
    assert first is not None
    assert second is not None
    assert pool.seal(1) is None
    assert pool.pending_count == 1
    pool.committed([first.digest], [t.id for t in first.transactions], 1, START_MS, frozenset())
    assert pool.seal(2) is not None

"""The restart rule: a lost or stale memory is silent while it could contradict itself; an intact one speaks.

The lives of a validator are walked through exhaustively: every copy of the promise that a disk may have kept, against
every set of later votes that others may have heard.
"""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.consensus.context import make_block
from consilium.consensus.evidence import VoteKind, vote_digest
from consilium.consensus.io import Broadcast, Now, Started, VoteFloor
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import (
    Signed,
    sign_commit,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.promise import (
    Promise,
    no_promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.consensus.replica import Replica
from consilium.consensus.restart import (
    NEVER,
    SAID_MAX,
    STATUS_BYTES_MAX,
    Answer,
    Memory,
    Said,
    Status,
    Verdict,
    covers,
    judge,
    latest,
    said_in,
    said_in_prepared,
    said_in_seals,
    verify_status,
)
from consilium.ledger import codec
from consilium.ledger.errors import PeerFault
from consilium.ledger.validators import Validator, ValidatorSet
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    CONTEXT,
    KEYS,
    OTHER,
    STRANGER,
    VALIDATORS,
    commit_certificate,
    context_of,
    keys_of,
    prepared_certificate,
    set_of,
)

H = BLOCK.height
OWN = KEYS[3]
SETS = (VALIDATORS, VALIDATORS)

Life = list[tuple[Promise, Signed]]
"""What was promised at each vote, and the vote."""


def lives() -> list[Life]:
    """Everything that a validator can say at height H in views 0 to 2, one life for each way through."""
    found: list[Life] = []

    def grow(life: Life, promise: Promise) -> None:
        found.append(life)
        votes = promise.votes
        view = votes.view
        if votes.prepare is None:
            for block in (BLOCK, OTHER):
                if votes.prepared is not None and votes.prepared.block_hash != block.hash:
                    continue
                following = promise_prepare(promise, view, block)
                grow([*life, (following, sign_prepare(OWN, CHAIN, H, view, block.hash))], following)
        elif votes.commit is None:
            block_hash = votes.prepare
            voted = promise.proposal(block_hash)
            assert voted is not None
            following = promise_commit(promise, prepared_certificate(voted, view, [0, 1, 3]))
            grow([*life, (following, sign_commit(OWN, CHAIN, H, view, block_hash))], following)
        if view < 2:
            following = promise_view_change(promise, view + 1)
            said = sign_view_change(OWN, CHAIN, H, view + 1, following.prepared)
            grow([*life, (following, said)], following)

    grow([], no_promise(H))
    return found


LIVES = lives()


def answers(*said: Said, top: int = H - 1, of: tuple[int, ...] = (0, 1, 2, 3)) -> dict[bytes, Answer]:
    shown = {KEYS[place].public: Answer(top) for place in of}
    if said:
        shown[KEYS[of[0]].public] = Answer(top, said)
    return shown


def test_the_lives_are_many() -> None:
    assert len(LIVES) > 60
    assert max(len(life) for life in LIVES) >= 6


def test_an_intact_promise_accounts_for_all_that_was_said() -> None:
    for life in LIVES:
        if not life:
            continue
        promise = life[-1][0]
        said = [said_in(vote) for _, vote in life]
        assert all(covers(promise, one) for one in said)
        verdict = judge(promise, answers(*said), SETS)
        assert verdict == Verdict(Memory.INTACT, H, H - 1)


def test_every_older_copy_is_found_out_by_any_one_vote_after_it() -> None:
    for life in LIVES:
        for kept in range(len(life)):
            promise = life[kept - 1][0] if kept else None
            for _, vote in life[kept:]:
                said = said_in(vote)
                assert not covers(promise, said)
                verdict = judge(promise, answers(said), SETS)
                assert verdict is not None
                assert verdict.memory is (Memory.STALE if kept else Memory.LOST)
                assert verdict.floor == H + 2  # top + 2 is H + 1


def test_a_copy_of_another_history_is_stale() -> None:
    promise = promise_prepare(no_promise(H), 0, BLOCK)
    for vote in (
        sign_prepare(OWN, CHAIN, H, 0, OTHER.hash),
        sign_commit(OWN, CHAIN, H, 0, BLOCK.hash),
        sign_view_change(OWN, CHAIN, H, 1, None),
        sign_prepare(OWN, CHAIN, H + 1, 0, OTHER.hash),
    ):
        verdict = judge(promise, answers(said_in(vote)), SETS)
        assert verdict is not None
        assert verdict.memory is Memory.STALE
        assert verdict.floor > vote.height


def test_a_view_change_with_another_claim_is_stale() -> None:
    sealed = promise_commit(
        promise_prepare(no_promise(H), 0, BLOCK), prepared_certificate(BLOCK, 0, [0, 1, 3])
    )
    changed = promise_view_change(sealed, 1)
    assert covers(changed, said_in(sign_view_change(OWN, CHAIN, H, 1, changed.prepared)))
    assert not covers(changed, said_in(sign_view_change(OWN, CHAIN, H, 1, None)))


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 11))
def test_a_quorum_answers_the_own_chain_counted(count: int) -> None:
    keys = keys_of(count)
    validators = set_of(keys)
    promise = no_promise(5)
    for heard in range(count + 1):
        given_ = {key.public: Answer(4) for key in keys[:heard]}
        verdict = judge(promise, given_, (validators, validators))
        assert (verdict is not None) == (heard >= validators.quorum)


def test_strangers_count_for_nothing_but_are_heeded() -> None:
    promise = no_promise(H)
    strange = {STRANGER.public: Answer(H + 5)}
    assert judge(promise, {**answers(of=(0, 1)), **strange}, SETS) is None
    verdict = judge(promise, {**answers(of=(0, 1, 2)), **strange}, SETS)
    assert verdict == Verdict(Memory.INTACT, H + 6, H + 5)


def test_a_quorum_of_both_sets_is_needed_while_the_set_changes() -> None:
    five = keys_of(7)
    before, after = set_of(five[:4]), set_of(five[3:])
    given_ = {key.public: Answer(4) for key in five[:3]}
    assert judge(no_promise(5), given_, (before, before)) is not None
    assert judge(no_promise(5), given_, (before, after)) is None
    given_.update({key.public: Answer(4) for key in five[3:6]})
    assert judge(no_promise(5), given_, (before, after)) is not None


def test_the_network_begins_only_once() -> None:
    assert judge(None, answers(top=0), SETS) == Verdict(Memory.FOUNDING, 1, 0)
    assert judge(None, answers(top=1), SETS) == Verdict(Memory.LOST, 4, 1)
    block = make_block(context_of(height=1), [], 1, VALIDATORS.keys[0])
    heard = said_in(sign_prepare(OWN, CHAIN, 1, 0, block.hash))
    assert judge(None, answers(heard, top=0), SETS) == Verdict(Memory.LOST, 3, 0)


def test_a_whole_network_that_stopped_goes_on_at_once() -> None:
    """Nobody remembers what was heard; everybody has its promise, at the tip's height or the next."""
    for height in (9, 10):
        assert judge(no_promise(height), answers(top=9), SETS) == Verdict(Memory.INTACT, 10, 9)


def test_one_dead_and_one_that_was_slow_go_on() -> None:
    """Heights 9 and 10 were decided without this one; its memory is whole, and is needed now."""
    assert judge(no_promise(8), answers(top=10, of=(0, 1, 3)), SETS) == Verdict(Memory.INTACT, 11, 10)


def test_a_truncated_chain_catches_up_with_its_promise() -> None:
    assert judge(no_promise(12), answers(top=3), SETS) == Verdict(Memory.INTACT, 12, 3)


def test_the_highest_tip_counts_whoever_shows_it() -> None:
    shown = answers(top=5)
    shown[KEYS[1].public] = Answer(8)
    assert judge(None, shown, SETS) == Verdict(Memory.LOST, 11, 8)


@settings(max_examples=300, deadline=None)
@given(st.integers(4, 10), st.integers(0, 2**32), st.integers(2, 40))
def test_nothing_was_said_above_the_silence(n: int, seed: int, height: int) -> None:
    """A dumb model: whoever voted at `height` had committed height - 1; a quorum sealed that, each honest one of it had
    committed height - 2. Any quorum answers, the asker counted; up to f, the asker among them, say anything."""
    chance = random.Random(seed)
    keys = keys_of(n)
    validators = set_of(keys)
    asker = keys[chance.randrange(n)].public
    faulty = {asker, *(key.public for key in chance.sample(keys, max(0, validators.f - 1)))}
    sealers = chance.sample(keys, validators.quorum)
    tips = {key.public: chance.randrange(0, height - 1) for key in keys}
    for key in sealers:
        tips[key.public] = max(tips[key.public], height - 2)
    for liar in faulty:
        tips[liar] = 0
    others = chance.sample([key.public for key in keys if key.public != asker], validators.quorum - 1)
    shown = {key: Answer(tips[key]) for key in (asker, *others)}
    verdict = judge(None, shown, (validators, validators))
    assert verdict is not None
    if verdict.memory is not Memory.FOUNDING:
        assert verdict.floor > height
    else:
        assert height <= 2


@pytest.mark.parametrize("n", [4, 5, 7, 10])
def test_who_forgot_does_not_count_where_others_remember(n: int) -> None:
    keys = keys_of(n)
    validators = set_of(keys)
    sets = (validators, validators)
    shown = {
        key.public: Answer(8, (), remembers=place < validators.quorum - 1) for place, key in enumerate(keys)
    }
    assert judge(None, shown, sets) is None
    assert judge(no_promise(9), shown, sets) is None
    shown[keys[-1].public] = Answer(8)
    assert judge(None, shown, sets) == Verdict(Memory.LOST, 11, 8)
    # What they show makes it more careful all the same.
    shown[keys[-2].public] = Answer(20, (), remembers=False)
    assert judge(None, shown, sets) == Verdict(Memory.LOST, 23, 20)


def test_where_the_network_begins_nobody_has_to_remember() -> None:
    nobody = {key.public: Answer(0, (), remembers=False) for key in KEYS[:3]}
    assert judge(None, nobody, SETS) == Verdict(Memory.FOUNDING, 1, 0)
    vote = said_in(sign_prepare(OWN, CHAIN, 1, 0, bytes(32)))
    nobody[KEYS[0].public] = Answer(0, (vote,), remembers=False)
    assert judge(None, nobody, SETS) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(4, 10), st.integers(0, 2**32), st.integers(3, 40))
def test_nothing_was_said_above_the_silence_however_many_forgot(n: int, seed: int, height: int) -> None:
    """As before, and any number of validators forgot at once, while less than f lie."""
    chance = random.Random(seed)
    keys = [key.public for key in keys_of(n)]
    validators = set_of(keys_of(n))
    liars = chance.sample(keys, max(0, validators.f - 1))
    sealers = chance.sample(keys, validators.quorum)
    tips = {
        key: chance.randrange(height - 2, height) if key in sealers else chance.randrange(height)
        for key in keys
    }
    forgot = chance.sample([key for key in keys if key not in liars], chance.randrange(1, n - len(liars) + 1))
    shown = {}
    for key in chance.sample(keys, chance.randrange(1, n + 1)):
        remembers = key in liars or key not in forgot
        shown[key] = Answer(0 if key in liars or not remembers else tips[key], (), remembers)
    asker = chance.choice(forgot)
    shown[asker] = Answer(0)
    verdict = judge(None, shown, (validators, validators))
    if verdict is not None and verdict.memory is not Memory.FOUNDING:
        assert verdict.floor > height


def test_what_was_shown_before_is_kept() -> None:
    one, other = (said_in(sign_prepare(OWN, CHAIN, height, 0, bytes(32))) for height in (5, 6))
    later = Answer(7, (other,), True).after(Answer(6, (one,), False))
    assert later == Answer(7, (other, one), True)
    assert Answer(7, (other,), True).after(None) == Answer(7, (other,), True)


# --- what is shown --------------------------------------------------------------------------------------------------


def status(**changes: object) -> Status:
    plain = Status(b"n" * 16, BLOCK.header, commit_certificate(BLOCK, 0, [0, 1, 2]), True, [])
    return msgspec.structs.replace(plain, **changes)


def test_a_true_answer_is_believed() -> None:
    said = said_in(sign_prepare(OWN, CHAIN, H + 1, 0, OTHER.hash))
    answer = verify_status(status(said=[said]), OWN.public, CHAIN, SETS)
    assert answer == Answer(H, (said,))


def test_a_tip_of_an_unknown_set_waits_until_the_asker_has_caught_up() -> None:
    other = set_of(keys_of(5))
    assert verify_status(status(), OWN.public, CHAIN, (other,)) is None
    assert verify_status(status(), OWN.public, CHAIN, (other, VALIDATORS)) == Answer(H)


def test_nobody_can_invent() -> None:
    true = said_in(sign_prepare(OWN, CHAIN, H, 0, OTHER.hash))
    header = msgspec.structs.replace(BLOCK.header, height=H + 90)
    genesis = msgspec.structs.replace(BLOCK.header, height=0)
    for forged in (
        status(said=[msgspec.structs.replace(true, view=1)]),
        status(said=[msgspec.structs.replace(true, height=H + 1)]),
        status(said=[msgspec.structs.replace(true, kind=1)]),
        status(said=[msgspec.structs.replace(true, content=BLOCK.hash)]),
        status(said=[said_in(sign_prepare(KEYS[0], CHAIN, H, 0, BLOCK.hash))]),
        status(certificate=None),
        status(header=header),
        status(header=genesis),
        status(header=msgspec.structs.replace(BLOCK.header, chain_id=bytes(32))),
        status(certificate=commit_certificate(BLOCK, 0, [0, 1])),
        status(certificate=commit_certificate(OTHER, 0, [0, 1, 2])),
    ):
        with pytest.raises(PeerFault):
            verify_status(forged, OWN.public, CHAIN, SETS)
    assert verify_status(status(header=genesis, certificate=None), OWN.public, CHAIN, SETS) == Answer(0)


def test_seals_and_prepares_in_certificates_are_the_askers_word() -> None:
    place = VALIDATORS.index(OWN.public)
    for found in (
        said_in_seals(commit_certificate(BLOCK, 2, [0, 1, 3]), place),
        said_in_prepared(prepared_certificate(BLOCK, 2, [1, 2, 3]), H, place),
    ):
        (one,) = found
        digest = vote_digest(VoteKind(one.kind), CHAIN, one.height, one.view, one.content)
        assert one.signature == OWN.sign(digest)
    assert said_in_seals(commit_certificate(BLOCK, 2, [0, 1, 2]), place) == []
    assert said_in_prepared(prepared_certificate(BLOCK, 2, [0, 1, 2]), H, None) == []


def test_the_latest_votes_are_shown_once_each() -> None:
    votes = [said_in(sign_prepare(OWN, CHAIN, height, 0, BLOCK.hash)) for height in range(40)]
    shown = latest([*votes, *votes])
    assert [one.height for one in shown] == list(range(39, 39 - SAID_MAX, -1))


def test_the_largest_answer_fits() -> None:
    many = ValidatorSet([Validator(bytes([place]) * 32, bytes(16)) for place in range(60)])
    certificate = commit_certificate(BLOCK, 0, [0] * many.quorum)
    said = [
        Said(kind, codec.UINT_MAX - view, codec.UINT_MAX, bytes(32), bytes(64))
        for view, kind in itertools.islice(itertools.product(range(SAID_MAX), range(3)), SAID_MAX)
    ]
    raw = codec.encode(Status(b"n" * 16, BLOCK.header, certificate, True, said))
    assert len(raw) <= STATUS_BYTES_MAX
    assert codec.decode(raw, Status, STATUS_BYTES_MAX).said == said


# --- the replica's floor --------------------------------------------------------------------------------------------

NOW = Now(1_000, CONTEXT.parent.time_ms + 10)


def said_by(effects: object) -> list[str]:
    return [type(effect.message).__name__ for effect in effects if isinstance(effect, Broadcast)]  # type: ignore[attr-defined]


def test_a_replica_says_nothing_until_it_may_and_then_what_it_said() -> None:
    promise = promise_prepare(no_promise(H), 0, BLOCK)
    replica = Replica(KEYS[1], CONTEXT, promise, ReplicaConfig(), NEVER)
    assert said_by(replica.step(Started(), NOW)) == []
    assert not replica.votes_here
    assert said_by(replica.step(VoteFloor(H), NOW)) == ["Prepare"]
    assert replica.votes_here


def test_a_floor_above_keeps_it_silent_here() -> None:
    promise = promise_prepare(no_promise(H), 0, BLOCK)
    replica = Replica(KEYS[1], CONTEXT, promise, ReplicaConfig(), NEVER)
    replica.step(Started(), NOW)
    assert replica.step(VoteFloor(H + 3), NOW) == []
    assert not replica.votes_here


def test_no_floor_goes_below_the_promise() -> None:
    replica = Replica(KEYS[1], CONTEXT, no_promise(H + 5), ReplicaConfig(), NEVER)
    replica.step(Started(), NOW)
    replica.step(VoteFloor(1), NOW)
    assert not replica.votes_here

"""The reader checks the custodian: what comes out is what the author sealed and the ledger allowed, or nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from consilium.client import boxes, consenting, reading, recording, rpc, sealing
from consilium.client import envelope as layout
from consilium.client.envelope import Context, envelope_digest
from consilium.client.reading import Asked
from consilium.client.recording import Imported, Payload
from consilium.client.release import Release, open_release, seal_release
from consilium.client.session import Session, new_id
from consilium.contracts import records
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.node import releasing
from tests.unit.node.care import HEADER, Ward, note, ward
from tests.unit.node.harness import wallet_of


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


async def permit(care: Ward, grantee: Session) -> bytes:
    now_ms = care.node.clock.wall_ms
    consent, _ = await consenting.grant(
        care.patient, grantee.identity, ["TREAT"], not_before_ms=now_ms - 1, not_after_ms=now_ms + 10_000_000
    )
    return consent


async def asked_for(care: Ward, count: int = 3) -> tuple[Imported, Asked]:
    imported = await care.import_notes(count)
    await permit(care, care.south)
    return imported, await reading.request(care.south, "TREAT", record_ids=imported.records)


class Liar:
    """A custodian that changes what an honest one released."""

    def __init__(
        self,
        honest: Any,
        lie: Callable[[Release, tuple[bytes, ...]], tuple[Release, tuple[bytes, ...]]],
        asked: Asked,
    ) -> None:
        self._honest = honest
        self._lie = lie
        self._asked = asked

    async def release(
        self, transaction: bytes, operation_index: int, signature: bytes, start: int = 0
    ) -> rpc.Released:
        true = await self._honest.release(transaction, operation_index, signature, start)
        opened = open_release(true.sealed_partials, self._asked.ephemeral, transaction)
        changed, envelopes = self._lie(opened, true.envelopes)
        return rpc.Released(seal_release(changed, self._asked.ephemeral.public), envelopes)


async def lied_to(care: Ward, asked: Asked, lie: Callable[..., Any]) -> str:
    with pytest.raises(Refused) as refused:
        await reading.fetch(care.south, asked, Liar(care.rpc, lie, asked))  # type: ignore[arg-type]
    return code_of(refused)


# --- asking and fetching --------------------------------------------------------------------------------------------


async def test_what_comes_out_is_what_went_in(care: Ward) -> None:
    imported, asked = await asked_for(care, 5)
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in opened] == list(imported.records)
    assert [one.payload for one in opened] == [note("note", index) for index in range(5)]
    assert all(one.header.fields == HEADER for one in opened)


async def test_whole_compartments_can_be_asked_for(care: Ward) -> None:
    imported = await care.import_notes(4)
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", compartments=[imported.compartment])
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in opened] == list(imported.records)


async def test_a_denial_is_an_answer_and_fetching_it_is_refused(care: Ward) -> None:
    imported = await care.import_notes(1)
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    assert not asked.allowed
    with pytest.raises(Refused) as refused:
        await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert code_of(refused) == "custodian.nothing_allowed"


async def test_what_cannot_be_asked_is_refused_by_its_code(care: Ward) -> None:
    imported = await care.import_notes(1)
    for question, code in (
        (
            reading.request(care.south, "NO-SUCH-PURPOSE", record_ids=imported.records),
            "consent.unknown_purpose",
        ),
        (reading.request(care.south, "TREAT"), "access.nothing_named"),
        (
            reading.request(
                care.south, "TREAT", record_ids=imported.records, compartments=[imported.compartment]
            ),
            "access.nothing_named",
        ),
    ):
        with pytest.raises(Refused) as refused:
            await question
        assert code_of(refused) == code


async def test_each_request_has_its_own_ephemeral_key(care: Ward) -> None:
    imported = await care.import_notes(1)
    first = await reading.request(care.south, "TREAT", record_ids=imported.records)
    second = await reading.request(care.south, "TREAT", record_ids=imported.records)
    assert first.ephemeral.public != second.ephemeral.public
    assert first.decision.ephemeral == first.ephemeral.public


# --- custodians that lie --------------------------------------------------------------------------------------------


async def test_a_partial_of_another_record_is_refused(care: Ward) -> None:
    _, asked = await asked_for(care, 2)

    def swap(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        one, two = release.partials
        change = msgspec.structs.replace
        crossed = (change(one, partial=two.partial), change(two, partial=one.partial))
        return change(release, partials=crossed), envelopes

    assert await lied_to(care, asked, swap) == "sealing.bad_partial"


@pytest.mark.parametrize("field", ["point", "proof", "index"])
async def test_a_false_partial_is_refused(care: Ward, field: str) -> None:
    _, asked = await asked_for(care, 1)
    change = msgspec.structs.replace

    def falsify(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        (only,) = release.partials
        false: Any = 2 if field == "index" else b"\x05" * len(getattr(only.partial, field))
        partial = change(only.partial, **{field: false})
        return change(release, partials=(change(only, partial=partial),)), envelopes

    assert await lied_to(care, asked, falsify) in ("sealing.bad_partial", "sealing.bad_point")


@pytest.mark.parametrize("how", ["missing", "another", "damaged", "cut"])
async def test_a_wrong_envelope_is_refused(care: Ward, how: str) -> None:
    imported, asked = await asked_for(care, 1)
    other = await care.import_notes(1, "other")
    stored = await care.north.state(records.RECORDS, other.records[0])
    assert stored is not None
    another = await care.service.get_envelope(stored.envelope)

    def exchange(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        (only,) = envelopes
        changed = {
            "missing": (),
            "another": (another,),
            "damaged": (only[:-1] + bytes([only[-1] ^ 1]),),
            "cut": (only[:-10],),
        }
        return release, changed[how]

    assert await lied_to(care, asked, exchange) == "sealing.wrong_anchor"
    assert imported


async def test_a_record_that_was_not_decided_on_is_refused(care: Ward) -> None:
    imported = await care.import_notes(3)
    await permit(care, care.south)
    wide = await reading.request(care.south, "TREAT", record_ids=imported.records)
    extra = open_release(
        (await care.rpc.release(wide.transaction, 0, sign(care, wide))).sealed_partials,
        wide.ephemeral,
        wide.transaction,
    ).partials[2]
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records[:2])

    def add(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, partials=(*release.partials, extra)), envelopes

    assert await lied_to(care, asked, add) == "sealing.wrong_request"


def sign(care: Ward, asked: Asked) -> bytes:
    return care.south.wallet.signing.sign(reading.release_digest(care.harness.chain_id, asked.transaction, 0))


async def test_a_record_that_comes_twice_is_refused(care: Ward) -> None:
    _, asked = await asked_for(care, 2)

    def repeat(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, partials=(*release.partials, release.partials[0])), envelopes

    assert await lied_to(care, asked, repeat) == "sealing.wrong_request"


@pytest.mark.parametrize("left", [0, 1])
async def test_a_record_that_is_left_out_is_noticed(care: Ward, left: int) -> None:
    """A reader must not take a part of the chart for the whole."""
    _, asked = await asked_for(care, 2)

    def leave_out(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, partials=release.partials[:left]), envelopes[:left]

    assert await lied_to(care, asked, leave_out) == "custodian.incomplete"


class Holding:
    """A custodian that holds back some records, by name, and says why."""

    def __init__(self, honest: Any, asked: Asked, held: Sequence[bytes], *, whole: bool = False) -> None:
        self._honest, self._asked, self._held, self._whole = honest, asked, held, whole

    async def release(
        self, transaction: bytes, operation_index: int, signature: bytes, start: int = 0
    ) -> rpc.Released:
        true = await self._honest.release(transaction, operation_index, signature, start)
        opened = open_release(true.sealed_partials, self._asked.ephemeral, transaction)
        kept = tuple(one for one in opened.partials if one.record not in self._held)
        sealed = seal_release(msgspec.structs.replace(opened, partials=kept), self._asked.ephemeral.public)
        names: Sequence[bytes | None] = [None] if self._whole else self._held
        withheld = tuple(rpc.Withheld(0, name, "vault.unknown", "lost") for name in names)
        return rpc.Released(sealed, true.envelopes, withheld, true.next)


async def test_what_one_custodian_holds_back_another_releases(care: Ward) -> None:
    imported, asked = await asked_for(care, 3)
    for whole, held in ((False, imported.records[:1]), (True, imported.records)):
        holding = Holding(care.rpc, asked, held, whole=whole)
        for order in ((holding, care.rpc), (care.rpc, holding)):
            found = await reading.fetch(care.south, asked, *order)
            assert sorted(one.record for one in found) == sorted(imported.records)
            assert found.withheld == ()


async def test_what_all_custodians_hold_back_is_named_with_the_reason(care: Ward) -> None:
    imported, asked = await asked_for(care, 3)
    holding = Holding(care.rpc, asked, imported.records[1:2])
    found = await reading.fetch(care.south, asked, holding, holding)  # type: ignore[arg-type]
    assert [one.record for one in found] == [imported.records[0], imported.records[2]]
    assert [(one.verdict, one.record, one.refusal.code) for one in found.withheld] == [
        (0, imported.records[1], "vault.unknown")
    ]
    assert (found[0].payload, len(found), found[1:]) == (note("note", 0), 2, found.opened[1:])
    everything = Holding(care.rpc, asked, imported.records)
    with pytest.raises(Refused, match=r"vault\.unknown: lost"):
        await reading.fetch(care.south, asked, everything)  # type: ignore[arg-type]
    named = await reading.collect(care.south, asked, everything)  # type: ignore[arg-type]
    assert [one.record for one in named.withheld] == list(imported.records)


async def test_a_custodian_that_refuses_does_no_harm_beside_one_that_does_not(care: Ward) -> None:
    imported, asked = await asked_for(care, 2)

    class Refusing:
        async def release(self, *given: Any) -> rpc.Released:
            raise Refused("custodian.stale", "its clock")

    for order in ((Refusing(), care.rpc), (care.rpc, Refusing())):
        found = await reading.fetch(care.south, asked, *order)
        assert [one.record for one in found] == list(imported.records)
        assert found.withheld == ()
    with pytest.raises(Refused, match=r"custodian\.stale"):
        await reading.fetch(care.south, asked, Refusing(), Refusing())  # type: ignore[arg-type]
    # Beside one that leaves out a record, the refusal is the reason.
    holding = Holding(care.rpc, asked, imported.records[:1], whole=False)
    silent = await reading.collect(care.south, asked, Refusing(), _Silent(holding))  # type: ignore[arg-type]
    assert [(one.record, one.refusal.code) for one in silent.withheld] == [
        (imported.records[0], "custodian.stale")
    ]


class _Silent:
    """Holds back, and does not say what or why."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    async def release(self, *given: Any) -> rpc.Released:
        return dataclasses.replace(await self._holding.release(*given), withheld=())


async def test_a_custodian_that_goes_round_in_circles_is_refused(care: Ward) -> None:
    _, asked = await asked_for(care, 1)

    class Circling:
        async def release(
            self, transaction: bytes, index: int, signature: bytes, start: int = 0
        ) -> rpc.Released:
            true = await care.rpc.release(transaction, index, signature, 0)
            opened = open_release(true.sealed_partials, asked.ephemeral, transaction)
            empty = seal_release(msgspec.structs.replace(opened, partials=()), asked.ephemeral.public)
            return rpc.Released(empty, (), (), start)

    with pytest.raises(Refused, match=r"sealing\.wrong_request"):
        await reading.fetch(care.south, asked, Circling())  # type: ignore[arg-type]


async def test_one_that_lies_does_no_harm_beside_one_that_does_not(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one custodian answers, it does not keep a reader from what the others release."""
    imported, wide = await asked_for(care, 3)
    foreign = open_release(
        (await care.rpc.release(wide.transaction, 0, sign(care, wide))).sealed_partials,
        wide.ephemeral,
        wide.transaction,
    ).partials[2]
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records[:2])

    def add(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, partials=(*release.partials, foreign)), envelopes

    def repeat(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, partials=(*release.partials, release.partials[0])), envelopes

    class Endless:
        """Always another page, and nothing on it."""

        def __init__(self, step: int) -> None:
            self.pages, self._step = 0, step

        async def release(
            self, transaction: bytes, index: int, signature: bytes, start: int = 0
        ) -> rpc.Released:
            self.pages += 1
            true = await care.rpc.release(transaction, index, signature, 0)
            opened = open_release(true.sealed_partials, asked.ephemeral, transaction)
            empty = seal_release(msgspec.structs.replace(opened, partials=()), asked.ephemeral.public)
            return rpc.Released(empty, (), (), start + self._step)

    monkeypatch.setattr(reading, "PAGES_MAX", 8)
    endless = Endless(1)
    liars: list[Any] = [Liar(care.rpc, add, asked), Liar(care.rpc, repeat, asked), endless, Endless(0)]
    for liar in liars:
        for order in ((liar, care.rpc), (care.rpc, liar)):
            found = await reading.fetch(care.south, asked, *order)
            assert [one.record for one in found] == list(imported.records[:2])
            assert found.withheld == ()
    assert endless.pages == 2 * 8
    with pytest.raises(Refused, match=r"custodian\.release_too_large"):
        await reading.fetch(care.south, asked, Endless(1))  # type: ignore[arg-type]


async def test_what_does_not_fit_into_memory_is_not_fetched(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = await asked_for(care, 3)
    monkeypatch.setattr(releasing, "PAGE_PARTIALS_MAX", 1)
    monkeypatch.setattr(reading, "FETCH_BYTES_MAX", 100)
    with pytest.raises(Refused, match=r"custodian\.release_too_large"):
        await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]


async def test_names_and_reasons_fill_memory_as_well(care: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked = await asked_for(care, 1)

    class Talkative:
        """Gives nothing, and always another reason."""

        async def release(
            self, transaction: bytes, index: int, signature: bytes, start: int = 0
        ) -> rpc.Released:
            true = await care.rpc.release(transaction, index, signature, 0)
            opened = open_release(true.sealed_partials, asked.ephemeral, transaction)
            empty = seal_release(msgspec.structs.replace(opened, partials=()), asked.ephemeral.public)
            reason = rpc.Withheld(0, None, "custodian.no_share", "")
            return rpc.Released(empty, (), (reason,) * 100, start + 1)

    monkeypatch.setattr(reading, "FETCH_BYTES_MAX", 3 * 100 * reading.WITHHELD_BYTES)
    monkeypatch.setattr(reading, "PAGES_MAX", 8)
    with pytest.raises(Refused, match=r"custodian\.release_too_large: more than 76800 bytes"):
        await reading.fetch(care.south, asked, Talkative())  # type: ignore[arg-type]


async def test_a_custodian_that_takes_for_ever_is_given_up(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = await asked_for(care, 1)

    class Waiting:
        async def release(
            self, transaction: bytes, index: int, signature: bytes, start: int = 0
        ) -> rpc.Released:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(reading, "FETCH_TIMEOUT_S", 0.05)
    with pytest.raises(Refused, match=r"rpc\.timeout"):
        await reading.fetch(care.south, asked, Waiting())  # type: ignore[arg-type]


async def test_the_answer_to_another_decision_is_refused(care: Ward) -> None:
    imported, asked = await asked_for(care, 1)
    other = await reading.request(care.south, "TREAT", record_ids=imported.records)

    def exchange(release: Release, envelopes: tuple[bytes, ...]) -> tuple[Release, tuple[bytes, ...]]:
        return msgspec.structs.replace(release, request=other.transaction), envelopes

    assert await lied_to(care, asked, exchange) == "sealing.wrong_request"
    with pytest.raises(Refused) as refused:
        await reading.fetch(
            care.south,
            dataclasses.replace(asked, ephemeral=boxes.new_box_key()),
            care.rpc,  # type: ignore[arg-type]
        )
    assert code_of(refused) == "sealing.wrong_key"


async def test_a_header_that_another_signed_for_the_author_is_refused(care: Ward) -> None:
    """West anchors a record whose header some key of nobody's signed."""
    imported = await care.import_notes(1)
    await permit(care, care.south)
    compartment, number, epoch = await recording.general_compartment(care.west, care.petra.identity)
    context = Context(care.harness.chain_id, new_id(), compartment, number, care.west.identity)
    stranger = wallet_of("a stranger")
    keys = sealing.AuthorKeys(stranger.signing, care.west.wallet.point)
    record = sealing.seal(b"forged", context, epoch.point, keys, [], HEADER)
    await care.service.put_envelopes([record.envelope])
    body = records.AnchorRecord(
        record=context.record,
        compartment=compartment,
        also=[],
        epoch=number,
        bundle=new_id(),
        position=0,
        count=1,
        anchor=record.anchor,
        envelope=record.digest,
    )
    await care.west.submit([operation("records.anchor", body)])
    alone = await reading.request(care.south, "TREAT", record_ids=[context.record])
    with pytest.raises(Refused) as refused:
        await reading.fetch(care.south, alone, care.rpc)  # type: ignore[arg-type]
    assert code_of(refused) == "sealing.bad_signature"
    # It keeps nothing else back.
    asked = await reading.request(care.south, "TREAT", record_ids=[context.record, *imported.records])
    found = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in found] == list(imported.records)
    assert [(one.record, one.refusal.code) for one in found.withheld] == [
        (context.record, "sealing.bad_signature")
    ]


async def test_an_old_key_of_the_author_still_vouches_for_what_it_signed(care: Ward) -> None:
    from consilium.contracts import identity

    _, asked = await asked_for(care, 1)
    fresh = wallet_of("north's next key").signing
    digest = identity.addition_digest(
        chain_id=care.harness.chain_id, identity=care.north.identity, key=fresh.public
    )
    add = identity.AddKey(fresh.public, fresh.sign(digest))
    revoke = identity.RevokeKey(care.north.wallet.signing.public)
    await care.north.submit([operation("identity.add_key", add)])
    await care.north.submit([operation("identity.revoke_key", revoke)])
    await care.service.wait(asked.transaction, 5, certified=True)
    (opened,) = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert opened.payload == note("note", 0)


async def test_an_author_may_seal_to_itself_what_it_likes_but_not_break_others(care: Ward) -> None:
    """An envelope whose stream is not what the head says: nothing of it is presented."""
    compartment, number, epoch = await recording.general_compartment(care.north, care.petra.identity)
    context = Context(care.harness.chain_id, new_id(), compartment, number, care.north.identity)
    record = sealing.seal(b"x" * 100, context, epoch.point, care.north.wallet.author_keys, [], HEADER)
    cut = record.envelope[:-20]
    digest, anchor = layout.seals_of(cut, context)
    assert digest == envelope_digest(cut)
    await care.service.put_envelopes([cut])
    body = records.AnchorRecord(
        record=context.record,
        compartment=compartment,
        also=[],
        epoch=number,
        bundle=new_id(),
        position=0,
        count=1,
        anchor=anchor,
        envelope=digest,
    )
    await care.north.submit([operation("records.anchor", body)])
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", record_ids=[context.record])
    with pytest.raises(Refused) as refused:
        await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert code_of(refused) == "sealing.damaged"


async def test_payloads_of_every_size_come_back(care: Ward) -> None:
    payloads = [Payload(b"", HEADER), Payload(b"\x00", HEADER), Payload(b"z" * 200_000, HEADER)]
    imported = await recording.import_records(care.north, care.petra.identity, payloads)
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.payload for one in opened] == [one.raw for one in payloads]

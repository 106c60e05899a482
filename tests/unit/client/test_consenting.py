"""The patient grants and revokes; nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consilium.client import consenting, reading
from consilium.contracts import consent
from consilium.ledger.errors import Refused
from tests.unit.node.care import Ward, ward


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


def period(care: Ward) -> tuple[int, int]:
    return care.node.clock.wall_ms - 1, care.node.clock.wall_ms + 1_000_000


async def decided(care: Ward, purpose: str = "TREAT", compartment: bytes | None = None) -> bool:
    """Whether South may read, by the ledger's word."""
    named = [compartment or care.petra.compartments[0].compartment]
    return (await reading.request(care.south, purpose, compartments=named)).allowed


async def test_a_grant_means_on_the_chain_what_the_patient_said(care: Ward) -> None:
    start, end = period(care)
    first, second, third = (kept.compartment for kept in care.petra.compartments[:3])
    assert not await decided(care, compartment=first)
    identifier, committed = await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT", "HPAYMT"],
        not_before_ms=start,
        not_after_ms=end,
        compartments=[first, second],
    )
    await care.tick()
    stored = await care.patient.state(consent.CONSENTS, identifier)
    assert stored is not None
    assert (stored.patient, stored.granted_ms, stored.revoked_ms) == (
        care.petra.identity,
        committed.time_ms,
        None,
    )
    assert [await decided(care, "TREAT", one) for one in (first, second, third)] == [True, True, False]
    assert await decided(care, "HPAYMT", second)
    assert not await decided(care, "HRESCH", second)
    west = await reading.request(care.west, "TREAT", compartments=[first])
    assert not west.allowed


async def test_a_denial_is_stronger_than_a_permit(care: Ward) -> None:
    start, end = period(care)
    for effect in ("permit", "deny"):
        await consenting.grant(
            care.patient,
            care.south.identity,
            ["TREAT"],
            not_before_ms=start,
            not_after_ms=end,
            effect=effect,
        )
    assert not await decided(care)


async def test_a_consent_ends_when_it_says(care: Ward) -> None:
    start, _ = period(care)
    end = care.node.clock.wall_ms + 60_000
    await consenting.grant(
        care.patient, care.south.identity, ["TREAT"], not_before_ms=start, not_after_ms=end
    )
    assert await decided(care)
    care.node.clock.wall_ms = end
    await care.tick()
    assert not await decided(care)


async def test_a_revocation_is_kept_with_its_time(care: Ward) -> None:
    start, end = period(care)
    identifier, _ = await consenting.grant(
        care.patient, care.south.identity, ["TREAT"], not_before_ms=start, not_after_ms=end
    )
    committed = await consenting.revoke(care.patient, identifier)
    await care.tick()
    stored = await care.patient.state(consent.CONSENTS, identifier)
    assert stored is not None
    assert stored.revoked_ms == committed.time_ms
    assert not await decided(care)
    with pytest.raises(Refused) as refused:
        await consenting.revoke(care.patient, identifier)
    assert code_of(refused) == "consent.already_revoked"


async def test_nobody_grants_or_revokes_for_the_patient(care: Ward) -> None:
    start, end = period(care)
    identifier, _ = await consenting.grant(
        care.patient, care.south.identity, ["TREAT"], not_before_ms=start, not_after_ms=end
    )
    for other in (care.north, care.south):
        with pytest.raises(Refused) as refused:
            await consenting.grant(
                other, care.south.identity, ["TREAT"], not_before_ms=start, not_after_ms=end
            )
        # An institution is no patient; what it grants in its own name concerns nobody.
        assert code_of(refused) in ("consent.not_the_patient", "records.not_a_patient")
        with pytest.raises(Refused) as refused:
            await consenting.revoke(other, identifier)
        assert code_of(refused).startswith("consent.")
    await care.tick()
    stored = await care.patient.state(consent.CONSENTS, identifier)
    assert stored is not None
    assert stored.revoked_ms is None


async def test_what_makes_no_sense_is_refused_by_its_code(care: Ward) -> None:
    start, end = period(care)
    south = care.south.identity
    for grantee, purposes, first, last, code in (
        (bytes(16), ["TREAT"], start, end, "consent.unknown_grantee"),
        (care.petra.identity, ["TREAT"], start, end, "consent.unknown_grantee"),
        (south, ["NONSENSE"], start, end, "consent.unknown_purpose"),
        (south, ["TREAT"], end, end, "consent.bad_period"),
        (south, ["TREAT"], 0, 1, "consent.bad_period"),
        (south, [], start, end, "codec.malformed"),
    ):
        with pytest.raises(Refused) as refused:
            await consenting.grant(care.patient, grantee, purposes, not_before_ms=first, not_after_ms=last)
        assert code_of(refused) == code
    with pytest.raises(Refused) as refused:
        await consenting.revoke(care.patient, bytes(16))
    assert code_of(refused) == "consent.unknown"

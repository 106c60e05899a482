"""The patient grants and revokes; nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consilium.client import consenting
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


async def test_a_grant_says_on_the_chain_what_the_patient_said(care: Ward) -> None:
    start, end = period(care)
    compartments = [kept.compartment for kept in care.petra.compartments[:2]]
    identifier, committed = await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT", "HPAYMT"],
        not_before_ms=start,
        not_after_ms=end,
        compartments=compartments,
        effect="deny",
    )
    await care.tick()
    stored = await care.patient.state(consent.CONSENTS, identifier)
    assert stored == consent.Consent(
        patient=care.petra.identity,
        grantee=care.south.identity,
        purposes=["TREAT", "HPAYMT"],
        compartments=compartments,
        effect="deny",
        not_before=start,
        not_after=end,
        granted_ms=committed.time_ms,
        revoked_ms=None,
    )


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
        assert code_of(refused) == "consent.not_the_patient"
        with pytest.raises(Refused) as refused:
            await consenting.revoke(other, identifier)
        assert code_of(refused) == "consent.not_the_patient"
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

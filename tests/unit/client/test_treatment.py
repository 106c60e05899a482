"""Treatment relationships: attested with a witness from outside, and ended by either side."""

from __future__ import annotations

import pytest

from consilium.client import reading, treatment
from consilium.client.wallet import Wallet
from tests.unit.client.acting import code_of, later, network, staff
from tests.unit.node.care import Ward


async def allowed(care: Ward, record: bytes) -> tuple[bool, str]:
    asked = await reading.request(care.south, "TREAT", record_ids=[record])
    (verdict,) = asked.decision.verdicts
    return verdict.allow, verdict.basis


@pytest.mark.parametrize("by_patient", [True, False])
async def test_a_relationship_opens_by_policy_until_either_ends_it(by_patient: bool) -> None:
    async with network() as care:
        (record,) = (await care.import_notes(1)).records
        assert await allowed(care, record) == (False, "no-basis")
        found, _ = await treatment.attest(care.south, care.petra.identity, later(care), witness=care.petra)
        assert await allowed(care, record) == (True, "policy")
        await treatment.end(care.patient if by_patient else care.south, found)
        assert await allowed(care, record) == (False, "no-basis")


async def test_it_takes_a_witness_from_outside() -> None:
    async with network() as care:
        own = await staff(care.south, "dora")
        for witness in (None, own, Wallet.create("nobody")):
            attested = treatment.attest(care.south, care.petra.identity, later(care), witness=witness)
            assert await code_of(attested) != "ok"
        elsewhere = await staff(care.north, "nora")
        await treatment.attest(care.south, care.petra.identity, later(care), witness=elsewhere)

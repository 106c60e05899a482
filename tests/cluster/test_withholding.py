"""A primary that withholds a patient's revocation loses its turn within the documented number of blocks.

The liar proposes everything but `consent.revoke`, and works well otherwise, so that no timer ever runs out: only the
rule against censorship deposes it. Till the revocation is decided the consent stands; from then on no custodian
releases on its ground, neither on a new request nor on one that was allowed before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from consilium.client import consenting, reading, recording
from consilium.client.envelope import HeaderFields
from consilium.client.recording import Payload
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.ledger.validators import PRIMARY_HEIGHTS
from consilium.node.complaints import UNDECIDED_HEIGHTS_MAX
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain
from tests.cluster.load import Load, until
from tests.cluster.test_byzantine import key_of, lies, sides, with_liar

TURN_LEFT = PRIMARY_HEIGHTS - UNDECIDED_HEIGHTS_MAX
"""A turn must be this young for the rule to end it before the calendar does."""
PATIENT_TIMERS = {"consensus": {"view_timeout_ms": 10_000, "view_timeout_max_ms": 20_000}}
"""A busy machine must not depose the liar for us."""
RAW = b'{"resourceType": "Observation"}'
HOUR_MS = 3_600_000


async def until_its_turn(cluster: LocalCluster, liar: int, asked: int, timeout_s: float = 120.0) -> int:
    """Wait, under load, until the liar's turn has begun just now. Returns the height."""
    key = key_of(cluster, liar).hex()
    async with asyncio.timeout(timeout_s):
        while True:
            status = await cluster.clients[asked].status()
            height = int(status["height"])
            if status["primary"] == key and height % PRIMARY_HEIGHTS < TURN_LEFT:
                return height
            await asyncio.sleep(0.01)


async def proposers(cluster: LocalCluster, asked: int, first: int, last: int) -> dict[int, bytes]:
    """By height, who proposed the block."""
    found = {}
    for height in range(first, last + 1):
        found[height] = bytes((await cluster.clients[asked].block(height)).block.header.primary)
    return found


@pytest.mark.timeout(300)
async def test_a_revocation_that_a_primary_withholds_is_decided_all_the_same(
    measured: Callable[[str, object], None],
) -> None:
    async with with_liar("withholding", PATIENT_TIMERS) as cluster:
        liar, honest = sides(cluster)
        custodian, other, reader = honest
        ada = Wallet.create("Ada", "patient")
        await recording.enrol(cluster.session(custodian), "patient", ada)
        patient = cluster.session(custodian, ada)
        held_by = cluster.institution(custodian).identity
        ada = await recording.open_compartments(patient, ada, held_by, lambda kept: None)
        imported = await recording.import_records(
            cluster.session(custodian),
            ada.identity,
            [Payload(RAW, HeaderFields("Observation", "1", "application/fhir+json"))],
        )
        asking = cluster.session(reader)
        now_ms = time.time_ns() // 1_000_000
        consent, _ = await consenting.grant(
            patient, asking.identity, ["TREAT"], not_before_ms=now_ms - 60_000, not_after_ms=now_ms + HOUR_MS
        )
        before = await reading.request(asking, "TREAT", record_ids=imported.records)

        await cluster.commit(other)  # the next header certifies the decision
        (opened,) = await reading.fetch(asking, before, cluster.clients[custodian])
        assert opened.payload == RAW

        async with Load(cluster, honest):
            handed_in = await until_its_turn(cluster, liar, other)
            started_s = time.monotonic()
            revoked = await consenting.revoke(cluster.session(other, ada), consent)
            measured("revoked_s", round(time.monotonic() - started_s, 2))
            measured("heights", revoked.height - handed_in)
            measured("turn_was_old", handed_in % PRIMARY_HEIGHTS)

        await until(lambda: "withheld" in lies(cluster, liar), 10.0)
        assert revoked.height - handed_in <= UNDECIDED_HEIGHTS_MAX
        by = await proposers(cluster, reader, handed_in + 1, revoked.height)
        assert by[handed_in + 1] == key_of(cluster, liar), "it had its turn"
        assert by[revoked.height] != key_of(cluster, liar)
        deposed = next(height for height, key in by.items() if key != key_of(cluster, liar))
        assert deposed % PRIMARY_HEIGHTS, "its turn had not ended by itself"

        # The tip of the custodian must have the block, and the next header its roots, as for any release.
        await cluster.wait_height((await cluster.commit(other)).height, honest)
        after = await reading.request(asking, "TREAT", record_ids=imported.records)
        assert [(one.allow, one.basis) for one in after.decision.verdicts] == [(False, "no-basis")]
        with pytest.raises(Refused) as refused:
            await reading.fetch(asking, before, cluster.clients[custodian])
        assert refused.value.code == "access.consent_ended"
        await common_chain(cluster, honest)

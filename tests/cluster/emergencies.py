"""What tests of emergencies on real clusters share: a ward with licensed staff, and a patient with records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from consilium.client import credentialing, recording
from consilium.client.envelope import HeaderFields
from consilium.client.recording import Payload
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.node.testing import LocalCluster

WAIT_S = 120.0
POLL_S = 0.1
DAY_MS = 24 * 3_600 * 1_000
RECORDS = (b'{"resourceType":"Condition"}', b'{"resourceType":"AllergyIntolerance"}')


@dataclass(frozen=True)
class Person:
    """A practitioner with an own wallet, and a licence that is bound to its key."""

    wallet: Wallet
    licence: bytes

    @property
    def id(self) -> bytes:
        return self.wallet.identity


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(check: Callable[[], Awaitable[object]], what: str) -> None:
    """Ask again until it is so: other processes decide."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not await check():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {WAIT_S:g} s: {what}") from None


async def employ(cluster: LocalCluster, employer: int, issuer: int, name: str) -> Person:
    """A practitioner of one institution, licensed by another."""
    wallet = Wallet.create(name, "practitioner")
    await recording.enrol(cluster.session(employer), "practitioner", wallet)
    issuing = cluster.session(issuer)
    licence, _ = await credentialing.issue(
        issuing, wallet.identity, "licence", now_ms() + 30 * DAY_MS, holder=wallet
    )
    return Person(wallet, licence)


async def admit(cluster: LocalCluster, home: int) -> tuple[Session, tuple[bytes, ...]]:
    """A patient of an institution, with two records of the general class: the patient's session, and the records."""
    patient = Wallet.create("patient", "patient")
    institution = cluster.session(home)
    await recording.enrol(institution, "patient", patient)
    owner = cluster.session(home, patient)
    await recording.open_compartments(owner, patient, institution.identity, lambda kept: None)
    payloads = [Payload(raw, HeaderFields("Condition", "", "application/fhir+json")) for raw in RECORDS]
    done = await recording.import_records(institution, patient.identity, payloads)
    return owner, done.records

"""Acts of the demonstration (`_demo`): a sensitive record that takes a consent of its own; a glass that two break."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from consilium.client import consenting, credentialing, emergency, recording
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.node.testing import LocalCluster

HOUR_MS = 3_600 * 1_000
NODES = 4
ISSUERS = (2, 3)
"""The institutions of a local cluster that issue credentials."""

Ask = Callable[[Session, str, tuple[bytes, ...], bool], Awaitable[int]]
"""Ask for records, for a purpose; what is expected; how many came back as they went in."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ward:
    """Two practitioners of one institution, whose licences are another's, bound to their own keys."""

    institution: int
    lee: Wallet
    kim: Wallet
    licences: tuple[bytes, bytes]


async def consent_to_sensitive(
    owner: Session, reader: Session, sensitive: tuple[bytes, ...], ask: Ask, say: Say
) -> int:
    """A consent to the general class does not open what is sensitive; one to its compartments does. Returns how many
    records were read."""
    opened = await owner.state(records.PATIENTS, owner.identity)
    compartments = list(opened.compartments) if opened is not None else []
    known = {one: await owner.state(records.COMPARTMENTS, one) for one in compartments}
    general = [one for one, value in known.items() if value is not None and value.general]
    wanted = []
    for record in sensitive:
        entry = await owner.state(records.RECORDS, record)
        wanted += [] if entry is None else [entry.compartment, *entry.also]
    now_ms = time.time_ns() // 1_000_000

    async def permit(places: list[bytes]) -> bytes:
        consent, _ = await consenting.grant(
            owner,
            reader.identity,
            ["TREAT"],
            not_before_ms=now_ms - HOUR_MS,
            not_after_ms=now_ms + HOUR_MS,
            compartments=places,
        )
        return consent

    first = await permit(general)
    say("  the patient consents to the general class alone; asked for the sensitive ones:")
    await ask(reader, "TREAT", sensitive, False)
    second = await permit(list(dict.fromkeys(wanted)))
    say("  the patient consents to these compartments too; asked again, two custodians open them together:")
    identical = await ask(reader, "TREAT", sensitive, True)
    for consent in (first, second):
        await consenting.revoke(owner, consent)
    return identical


async def staff(cluster: LocalCluster, institution: int) -> Ward:
    """Two practitioners with licences from an institution that does not employ them."""
    issuer = cluster.session(next(one for one in ISSUERS if one != institution))
    people, licences = [], []
    for name in ("lee", "kim"):
        wallet = Wallet.create(name, "practitioner")
        await recording.enrol(cluster.session(institution), "practitioner", wallet)
        not_after_ms = await issuer.tip_ms() + 24 * HOUR_MS
        licence, _ = await credentialing.issue(
            issuer, wallet.identity, "licence", not_after_ms, holder=wallet
        )
        people.append(wallet)
        licences.append(licence)
    return Ward(institution, people[0], people[1], (licences[0], licences[1]))


async def break_glass(
    cluster: LocalCluster, patient: bytes, ward: Ward, wanted: tuple[bytes, ...], ask: Ask, say: Say
) -> tuple[int, int]:
    """Without consent nothing opens, in an emergency two persons open it; the patient is told, another reviews.

    Returns how many records were read, and of how many things the patient was told.
    """
    clinician = cluster.session(ward.institution, ward.lee)
    say(f"  a clinician of institution {ward.institution + 1} asks in an emergency, without consent:")
    await ask(clinician, emergency.PURPOSE, wanted, False)
    glass, _ = await emergency.declare(
        clinician,
        patient,
        "danger-to-life",
        ward.licences[0],
        await clinician.tip_ms() + HOUR_MS,
        second=ward.kim,
        second_credential=ward.licences[1],
    )
    say(f"  two licensed persons break the glass ({glass.hex()[:8]}…), each with an own key; asked again:")
    identical = await ask(clinician, emergency.PURPOSE, wanted, True)
    reviewer = (ward.institution + 1) % NODES
    await emergency.review(cluster.session(reviewer), glass, "justified")
    told = await emergency.notices_of(cluster.clients[reviewer], patient)
    say(f"  the patient was told {len(told)} times; institution {reviewer + 1} has reviewed it: justified")
    return identical, len(told)

"""What a decision is made from: everything about one reader and one patient, taken from state by key.

`gather` reads; nothing here decides. A request looks at one set of facts for each patient that it names, so everything
in it is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.contracts import (
    consent,
    emergency,
    identity,
    mandates,
    preferences,
    representation,
    settings,
    teams,
    tombstones,
    treatment,
)
from consilium.contracts.consent import EVERYBODY, Consent
from consilium.contracts.emergency import Glass
from consilium.contracts.mandates import Mandate
from consilium.contracts.treatment import Relationship
from consilium.ledger.state import StateReader


@dataclass(frozen=True, slots=True)
class Facts:
    """See the module.

    `standing` is False where the reader, its employer or the patient is unknown or suspended, `erased` says that the
    patient was erased. `parties` are the
    ids under which a consent may name the reader. `consents`, `mandates`, `glasses` and `relationships` may or may not
    hold at the time and purpose in question, but nobody took them back. `lease_ms` is until when the reader is the
    patient's guardian; `is_patient` says that the reader is the patient.
    """

    patient: bytes
    reader: bytes
    standing: bool
    parties: tuple[bytes, ...] = ()
    consents: tuple[tuple[bytes, Consent], ...] = ()
    mandates: tuple[tuple[bytes, Mandate], ...] = ()
    glasses: tuple[tuple[bytes, Glass], ...] = ()
    relationships: tuple[tuple[bytes, Relationship], ...] = ()
    policy_purposes: tuple[str, ...] = ()
    emergency_deny: bool = False
    opt_out: bool = False
    is_patient: bool = False
    lease_ms: int | None = None
    erased: bool = False

    @property
    def count(self) -> int:
        """How many there are: of the ids under which something may name the reader, and of what does."""
        named = (self.parties, self.consents, self.mandates, self.glasses, self.relationships)
        return sum(map(len, named))


def gather(state: StateReader, reader: bytes, patient: bytes, time_ms: int) -> Facts:
    """The facts about a reader and a patient. `time_ms` is for what expires by itself and is not in a period here."""
    standing = identity.standing(state, reader) is None and identity.standing(state, patient) is None
    known = identity.IDENTITIES.get(state, reader)
    chosen = preferences.preferences_of(state, patient)
    if known is None:
        return Facts(patient, reader, False)
    if known.kind == identity.PATIENT:
        # Nobody grants a patient anything; but a denial to everybody shuts out whoever represents this one.
        shut = () if reader == patient else _consents(state, patient, (EVERYBODY,), is_opened=False)
        guardians = representation.current(
            representation.account_of(state, patient), representation.GUARDIAN, time_ms
        )
        leases = [one.not_after for one in guardians if one.identity == reader]
        return Facts(
            patient,
            reader,
            standing,
            parties=() if reader == patient else (EVERYBODY,),
            consents=shut,
            is_patient=reader == patient,
            lease_ms=leases[0] if leases else None,
            emergency_deny=chosen.emergency_deny,
            erased=tombstones.patient_erased(state, patient),
        )
    employer = known.sponsor if known.kind == identity.PRACTITIONER and known.sponsor is not None else None
    institution = employer or reader
    readers = [reader] if employer is None else [reader, employer]
    parties = (*readers, *teams.teams_of(state, reader), EVERYBODY)
    return Facts(
        patient=patient,
        reader=reader,
        standing=standing,
        parties=parties,
        consents=_consents(state, patient, parties, is_opened=True),
        mandates=tuple(
            (identifier, mandate)
            for one in readers
            for identifier, mandate in mandates.mandates_between(state, patient, one)
            if mandates.is_accredited(state, mandate)
        ),
        glasses=tuple(
            (identifier, glass)
            for identifier, glass in emergency.glasses_between(state, patient, reader)
            if emergency.is_valid(state, glass, time_ms)
        ),
        relationships=tuple(treatment.relationships_between(state, patient, institution)),
        policy_purposes=tuple(settings.current(state).policy_purposes),
        emergency_deny=chosen.emergency_deny,
        opt_out=chosen.opt_out,
        erased=tombstones.patient_erased(state, patient),
    )


def _consents(
    state: StateReader, patient: bytes, parties: tuple[bytes, ...], *, is_opened: bool
) -> tuple[tuple[bytes, Consent], ...]:
    """The consents to these parties behind which somebody stands; of some, or of all, only what they deny."""
    found = {
        identifier: value
        for party in parties
        for identifier, value in consent.consents_between(state, patient, party)
        if consent.stands(state, value)
    }
    return tuple(
        (identifier, value if is_opened and consent.opens(state, value) else consent.without_permits(value))
        for identifier, value in found.items()
    )

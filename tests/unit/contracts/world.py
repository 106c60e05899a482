"""A small network for contract tests: three institutions, two patients, two practitioners and an application.

Every transaction is signed and executed as in a block of its own, one second after the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from consilium.client import group
from consilium.client.classes import class_commitment
from consilium.consensus.evidence import Evidence, make_evidence
from consilium.consensus.messages import sign_commit
from consilium.contracts import access, ballot, consent, identity, records
from consilium.contracts.attestation import Attestation, attestation_digest
from consilium.contracts.classes import CLASSES, GENERAL
from consilium.contracts.registry import Registry, default_registry
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey, Tag
from consilium.ledger.execution import (
    ANCESTORS_MAX,
    Event,
    Outcome,
    ReceiptLeaf,
    execute,
    execute_genesis,
)
from consilium.ledger.genesis import GENESIS_VERSION, Genesis
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import Operation, Transaction, Verified, identity_of, sign_transaction
from consilium.ledger.validators import Validator, ValidatorSet

START_MS = 1_700_000_000_000
STEP_MS = 1_000
DAY_MS = 24 * 60 * 60 * 1000


_POINT = Tag("test/point")


def some_point(label: str) -> bytes:
    """A point of the group, the same for the same label."""
    return group.multiply_base(group.hash_to_scalar(_POINT, label.encode()))


def some(label: str, size: int = 16) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.sha256(label.encode()).digest()[:size]


@dataclass(frozen=True)
class Actor:
    """Somebody with one signing key."""

    name: str
    key: SigningKey
    id: bytes

    @property
    def encryption_key(self) -> bytes:
        return some(f"encryption/{self.name}", 32)


def actor(name: str) -> Actor:
    key = SigningKey(some(f"seed/{name}", 32))
    return Actor(name, key, identity_of(key.public))


NORTH, SOUTH, WEST = actor("north"), actor("south"), actor("west")
PETRA, PAUL = actor("petra"), actor("paul")
DORA, DAN = actor("dora"), actor("dan")
APP = actor("app")
NOBODY = actor("nobody")

ROLES: dict[str, list[identity.Role]] = {
    "north": ["author", "custodian", "manager"],
    "south": ["author", "custodian", "manager"],
    "west": ["authority", "issuer"],
}


def found(who: Actor) -> identity.FoundInstitution:
    point = some_point(f"point/{who.name}")
    return identity.FoundInstitution(who.key.public, who.encryption_key, point, ROLES[who.name])


@dataclass
class World:
    """The network's state, and a block for each transaction."""

    state: MemoryState = field(default_factory=MemoryState)
    registry: Registry = field(default_factory=default_registry)
    time_ms: int = START_MS
    height: int = 0
    counter: int = 0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.validators = ValidatorSet([Validator(NORTH.key.public, NORTH.id)])
        operations = [self.operation(found(who)) for who in (NORTH, SOUTH, WEST)]
        self.genesis = Genesis(GENESIS_VERSION, "test", START_MS, self.validators.validators, operations)  # type: ignore[arg-type]
        self._apply(execute_genesis(self.genesis, self.state, self.registry))

    @property
    def chain_id(self) -> bytes:
        return self.genesis.chain_id

    def operation(self, body: codec.Wire) -> Operation:
        (name,) = (name for name, spec in self.registry.operations.items() if spec.body is type(body))
        return Operation(name, codec.encode(body))

    def sign(self, who: Actor, *bodies: codec.Wire, sender: bytes | None = None) -> Verified[Transaction]:
        self.counter += 1
        return sign_transaction(
            who.key,
            chain_id=self.chain_id,
            sender=who.id if sender is None else sender,
            nonce=self.counter.to_bytes(16, "big"),
            valid_until=self.time_ms + 60_000,
            operations=[self.operation(body) for body in bodies],
        )

    def block(self, transactions: Sequence[Verified[Transaction]]) -> Outcome:
        self.time_ms += STEP_MS
        self.height += 1
        outcome = execute(
            chain_id=self.chain_id,
            height=self.height,
            time_ms=self.time_ms,
            transactions=transactions,
            state=self.state,
            seen=frozenset(),
            contracts=self.registry,
            validators=self.validators,
            ancestor=self.ancestor,
        )
        assert outcome.skipped == ()
        self._apply(outcome)
        return outcome

    def ancestor(self, height: int) -> bytes | None:
        """Blocks have no bodies here, but they have hashes."""
        within = self.height - ANCESTORS_MAX <= height < self.height
        return some(f"block/{height}", 32) if within else None

    def _apply(self, outcome: Outcome) -> None:
        self.state.apply(outcome.changes)
        self.events = [codec.decode(codec.encode(e), Event, 64 * 1024) for e in outcome.events]

    def leaf(self, who: Actor, *bodies: codec.Wire, sender: bytes | None = None) -> ReceiptLeaf:
        """What became of a transaction of its own."""
        outcome = self.block([self.sign(who, *bodies, sender=sender)])
        return codec.decode(outcome.leaves[0], ReceiptLeaf, 1 << 20)

    def ok(self, who: Actor, *bodies: codec.Wire, sender: bytes | None = None) -> ReceiptLeaf:
        leaf = self.leaf(who, *bodies, sender=sender)
        assert leaf.code == "ok", leaf.code
        return leaf

    def refused(self, who: Actor, *bodies: codec.Wire, sender: bytes | None = None) -> str:
        before = dict(self.state.values)
        leaf = self.leaf(who, *bodies, sender=sender)
        assert leaf.code != "ok"
        assert self.state.values == before
        assert self.events == []
        return leaf.code

    # --- what tests do often ---

    def enrolment(self, who: Actor, sponsor: Actor, kind: identity.EnrolledKind) -> identity.Enrol:
        digest = identity.enrolment_digest(
            chain_id=self.chain_id,
            sponsor=sponsor.id,
            kind=kind,
            key=who.key.public,
            encryption_key=who.encryption_key,
        )
        return identity.Enrol(kind, who.key.public, who.encryption_key, who.key.sign(digest))

    def populate(self) -> World:
        """Enrol everybody, and open Petra's and Paul's compartments."""
        self.ok(NORTH, self.enrolment(PETRA, NORTH, "patient"))
        self.ok(SOUTH, self.enrolment(PAUL, SOUTH, "patient"))
        self.ok(SOUTH, self.enrolment(DORA, SOUTH, "practitioner"))
        self.ok(NORTH, self.enrolment(DAN, NORTH, "practitioner"))
        self.ok(SOUTH, self.enrolment(APP, SOUTH, "application"))
        self.ok(NORTH, opening(PETRA))
        self.ok(SOUTH, opening(PAUL, custodian=SOUTH))
        return self

    def ask(
        self,
        who: Actor,
        *,
        records_: Sequence[bytes] = (),
        compartments: Sequence[bytes] = (),
        purpose="TREAT",
    ) -> access.Decision:
        leaf = self.ok(who, asking(records_=records_, compartments=compartments, purpose=purpose))
        return codec.decode(leaf.results[0], access.Decision, 1 << 16)


def compartment_of(patient: Actor, code: int = GENERAL) -> bytes:
    return some(f"compartment/{patient.name}" + (f"/{code}" if code else ""))


CLASS_CHAIN = bytes(32)
"""The commitments of tests name no network: nothing on the chain opens them."""


def opening(patient: Actor, custodian: Actor = NORTH) -> records.OpenCompartments:
    """Every class: the general one kept by the custodian alone, the others by two of two."""
    other = SOUTH if custodian is NORTH else NORTH
    made = []
    for code in CLASSES:
        identifier = compartment_of(patient, code)
        blinding = some(f"blinding/{patient.name}/{code}", 32)
        points = [some_point(f"C/{patient.name}")]
        if code != GENERAL:
            points = [some_point(f"C/{patient.name}/{code}/{i}") for i in range(2)]
        made.append(
            records.NewCompartment(
                identifier,
                code == GENERAL,
                class_commitment(CLASS_CHAIN, patient.id, identifier, code, blinding),
                points,
                [custodian.id, other.id][: len(points)],
            )
        )
    return records.OpenCompartments(patient.id, sorted(made, key=lambda new: new.compartment))


def record_id(label: str) -> bytes:
    return some(f"record/{label}")


def anchoring(
    label: str,
    patient: Actor,
    *,
    bundle: str = "b",
    position: int = 0,
    count: int = 1,
    epoch: int = 0,
    classes: Sequence[int] = (GENERAL,),
) -> records.AnchorRecord:
    return records.AnchorRecord(
        record=record_id(label),
        compartment=compartment_of(patient, classes[0]),
        also=sorted(compartment_of(patient, code) for code in classes[1:]),
        epoch=epoch,
        bundle=some(f"bundle/{bundle}"),
        position=position,
        count=count,
        anchor=some(f"anchor/{label}", 32),
        envelope=some(f"envelope/{label}", 32),
    )


def granting(
    label: str,
    grantee: Actor | bytes | None,
    *,
    patient: Actor = PETRA,
    purposes: Sequence[str] | None = ("TREAT",),
    compartments: list[bytes] | None = None,
    effect: consent.Effect = "permit",
    not_before: int = 0,
    not_after: int = START_MS + 30 * DAY_MS,
    transferable: bool = False,
) -> consent.GrantConsent:
    """A consent of one provision, to somebody, to a team by its id, or to everybody."""
    return consent.GrantConsent(
        some(f"consent/{label}"),
        patient.id,
        [
            provision(
                grantee,
                purposes=purposes,
                compartments=compartments,
                effect=effect,
                not_before=not_before,
                not_after=not_after,
            )
        ],
        transferable=transferable,
    )


def provision(
    grantee: Actor | bytes | None,
    *,
    depth: int = 0,
    purposes: Sequence[str] | None = ("TREAT",),
    compartments: list[bytes] | None = None,
    effect: consent.Effect = "permit",
    not_before: int = 0,
    not_after: int = START_MS + 30 * DAY_MS,
    conditional: bool = False,
) -> consent.Provision:
    named = grantee.id if isinstance(grantee, Actor) else grantee
    return consent.Provision(
        depth,
        effect,
        None if named is None else [named],
        None if purposes is None else list(purposes),
        compartments,
        not_before,
        not_after,
        conditional,
    )


def attested(
    world: World, sender: Actor, body: codec.Wire, field_name: str, who: Actor, key: Actor | None = None
) -> codec.Wire:
    """The body with somebody's attestation in its field."""
    (name,) = (name for name, spec in world.registry.operations.items() if spec.body is type(body))
    bare = msgspec.structs.replace(body, **{field_name: None})
    digest = attestation_digest(chain_id=world.chain_id, sender=sender.id, operation=name, body=bare)
    signer = key or who
    signed = Attestation(who.id, signer.key.public, signer.key.sign(digest))
    return msgspec.structs.replace(bare, **{field_name: signed})


def revoking(label: str) -> consent.RevokeConsent:
    return consent.RevokeConsent(some(f"consent/{label}"))


def asking(
    *, records_: Sequence[bytes] = (), compartments: Sequence[bytes] = (), purpose: str = "TREAT"
) -> access.AccessRequest:
    return access.AccessRequest(
        list(records_) or None, list(compartments) or None, purpose, some("ephemeral", 32)
    )


def proposing(label: str, change: ballot.Change) -> ballot.Propose:
    return ballot.Propose(some(f"proposal/{label}"), change)


def voting(label: str, *, approve: bool = True) -> ballot.Vote:
    return ballot.Vote(some(f"proposal/{label}"), approve)


def ready(world: World, candidate: Actor, institution: Actor, height: int) -> ballot.Ready:
    block_hash = some(f"block/{height}", 32)
    digest = ballot.ready_digest(
        chain_id=world.chain_id,
        key=candidate.key.public,
        institution=institution.id,
        height=height,
        block_hash=block_hash,
    )
    return ballot.Ready(candidate.key.public, height, block_hash, candidate.key.sign(digest))


def evidence(world: World, validator: Actor, height: int, view: int = 0) -> Evidence:
    one, other = (
        sign_commit(validator.key, world.chain_id, height, view, some(f"block/{label}", 32))
        for label in ("one", "other")
    )
    return make_evidence(one, other)


def admission(world: World, who: Actor) -> ballot.AdmitInstitution:
    point = some_point(f"point/{who.name}")
    roles: list[identity.Role] = ["author"]
    digest = ballot.admission_digest(
        chain_id=world.chain_id,
        key=who.key.public,
        encryption_key=who.encryption_key,
        author_point=point,
        roles=roles,
    )
    return ballot.AdmitInstitution(who.key.public, who.encryption_key, point, roles, who.key.sign(digest))

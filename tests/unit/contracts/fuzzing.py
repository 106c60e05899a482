"""Bodies of every operation, from their types alone, for the fuzzing of contracts: nearly right, and wild.

Everything is drawn from one `Random`, so a number names a whole run. Ids and keys come from the state (under the names
of the fields that hold them), so that much of what is drawn means something; signatures are mended, so that much of it
is believed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from consilium.contracts import ballot, credentials, identity, records, recovery, sessions, takeover
from consilium.contracts.attestation import Attestation, attestation_digest
from consilium.contracts.calendar import DAY_MS
from consilium.contracts.purposes import PURPOSES
from consilium.contracts.registry import Registry
from consilium.contracts.representation import account_of
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey
from consilium.ledger.state import StateReader
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import Actor

LONG_LIST_MAX = 300
BODY_ROOM_BYTES = 15_000
ACTORS = (w.NORTH, w.SOUTH, w.WEST, w.PETRA, w.PAUL, w.DORA, w.DAN, w.APP, w.NOBODY, care.FRESH)
SPARE = tuple(w.actor(f"spare/{number}") for number in range(12))
KEYS: Mapping[bytes, SigningKey] = {one.key.public: one.key for one in (*ACTORS, *SPARE)}
POINTS = tuple(w.some_point(f"fuzz/{number}") for number in range(4))
NO_POINTS = (bytes(32), b"\x01" + bytes(31), b"\xff" * 32)
SYNONYMS = {
    "reader": ("clinician", "institution"),
    "representative": ("patient", "clinician"),
    "actor": ("institution", "clinician"),
    "actors": ("institution", "clinician", "team"),
    "practitioner": ("clinician",),
    "practitioners": ("clinician",),
    "member": ("clinician",),
    "holders": ("clinician",),
    "parent": ("consent",),
    "source": ("record",),
    "records": ("record",),
    "compartments": ("compartment",),
    "also": ("compartment",),
    "custodians": ("institution",),
    "subject": ("clinician", "institution"),
    "application": ("application",),
    "credential": ("credential",),
    "second_credential": ("credential",),
    "transaction": ("decision",),
    "commitments": ("point",),
    "author_point": ("point",),
}


class Pool:
    """Bytes that the state holds, by the name of the field or entry that they stand for."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.named: dict[str, list[bytes]] = {"point": [*POINTS, *NO_POINTS]}
        self.known: dict[bytes, bool] = {}
        for one in ACTORS:
            self._add("key", one.key.public)
        for one in SPARE:
            self._add("key", one.key.public)
        for name, kinds in (
            ("institution", (w.NORTH, w.SOUTH, w.WEST)),
            ("patient", (w.PETRA, w.PAUL)),
            ("clinician", (w.DORA, w.DAN)),
            ("application", (w.APP,)),
        ):
            for one in kinds:
                self._add(name, one.id)

    def learn(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take up what a block wrote."""
        for key, raw in changes:
            slot = self.registry.slots[key[:1]]
            if slot.parts:
                self._add(slot.kind.__name__.lower(), key[1 : 1 + slot.parts[0]])
            if raw is not None:
                self._fields(slot.decode(raw))

    def draw(self, rng: random.Random, name: str, size: int) -> bytes:
        """Mostly something that could stand in this field, else any known bytes, else new ones."""
        chance = rng.random()
        if chance < 0.75:
            names = (name, *SYNONYMS.get(name, ()))
            found = [one for other in names for one in self.named.get(other, ()) if len(one) == size]
            if found:
                return rng.choice(found)
        if chance < 0.85:
            found = [one for some in self.named.values() for one in some if len(one) == size]
            if found:
                return rng.choice(found)
        return rng.choice((bytes(size), b"\xff" * size, *(rng.randbytes(size) for _ in range(6))))

    def _fields(self, value: codec.Wire) -> None:
        for name in value.__struct_fields__:
            self._take(name, getattr(value, name))

    def _take(self, name: str, value: Any) -> None:
        if isinstance(value, codec.Wire):
            self._fields(value)
        elif isinstance(value, list):
            for one in value:
                self._take(name, one)
        elif isinstance(value, bytes) and len(value) in (16, 32, 64):
            self._add(name, value)

    def _add(self, name: str, value: bytes) -> None:
        found = self.named.setdefault(name, [])
        if value not in found and len(found) < 64:
            found.append(value)


class Drawing:
    """Draws bodies. `time_ms` is the time of the block that they are for."""

    def __init__(self, rng: random.Random, pool: Pool, time_ms: int) -> None:
        self.rng, self.pool, self.time_ms = rng, pool, time_ms

    def body(self, kind: type[codec.Wire]) -> codec.Wire:
        value: codec.Wire = self._value("", inspect.type_info(kind))
        return value

    def _value(self, name: str, info: Any) -> Any:
        rng = self.rng
        match info:
            case inspect.StructType():
                return info.cls(**{one.name: self._value(one.name, one.type) for one in info.fields})
            case inspect.UnionType():
                return self._value(name, rng.choice(info.types))
            case inspect.ListType():
                return self._list(name, info)
            case inspect.BytesType():
                least, most = info.min_length or 0, info.max_length or 64
                size = least if least == most else rng.choice((least, most, rng.randint(least, most)))
                return self.pool.draw(rng, name, size)
            case inspect.IntType():
                return self._int(info)
            case inspect.StrType():
                if rng.random() < 0.9:
                    return rng.choice(("TREAT", "ETREAT", "BTG", "HLEGAL", "PATRQT", rng.choice(PURPOSES)))
                return rng.choice(("x", "\x00", "\U0001f3e5", "TREAT "))[: info.max_length]
            case inspect.LiteralType():
                return rng.choice(info.values)
            case inspect.BoolType():
                return rng.random() < 0.5
            case inspect.NoneType():
                return None
        raise TypeError(f"no drawing of {info}")

    def _int(self, info: inspect.IntType) -> int:
        rng, now = self.rng, self.time_ms
        least = info.ge if info.ge is not None else 0
        most = info.le if info.le is not None else (info.lt or codec.UINT_MAX + 1) - 1
        drawn = rng.choice(
            (
                *(least, least, least, least + 1, least + 2, most, most - 1, rng.randint(least, most)),
                *(now - 1, now, now + 1, now + 1_000, now + 60 * 60_000, now + DAY_MS, now + 20 * DAY_MS),
                *(care.QUARTER_DAY, care.NEXT_QUARTER_DAY, now + 300 * DAY_MS),
            )
        )
        return int(drawn) if least <= drawn <= most else rng.choice((least, most, min(most, least + 3)))

    def _list(self, name: str, info: inspect.ListType) -> list[Any]:
        rng = self.rng
        least = info.min_length or 0
        most = min(info.max_length if info.max_length is not None else 8, LONG_LIST_MAX)
        long = most if rng.random() < 0.1 else min(most, 9)
        size = rng.choice(
            (least, min(most, max(1, least)), min(most, 2), rng.randint(least, max(least, long)))
        )
        drawn: list[Any] = []
        room = BODY_ROOM_BYTES
        while len(drawn) < size and (room > 0 or len(drawn) < least):
            drawn.append(self._value(name, info.item_type))
            room -= len(codec.encode(drawn[-1]))
        if drawn and rng.random() < 0.15:
            drawn = (drawn + drawn)[:most]
        elif rng.random() < 0.7:
            drawn = [one for at, one in enumerate(drawn) if one not in drawn[:at]]
            drawn = _sorted(drawn)
            if len(drawn) < least:
                drawn = (drawn * (least + 1))[:least]
        return drawn

    def changed(self, body: codec.Wire) -> codec.Wire:
        """The same body but for one or two fields, drawn anew."""
        info = inspect.type_info(type(body))
        infos = {one.name: one.type for one in info.fields} if isinstance(info, inspect.StructType) else {}
        names = self.rng.sample(sorted(infos), min(len(infos), self.rng.choice((1, 1, 2))))
        return msgspec.structs.replace(body, **{name: self._value(name, infos[name]) for name in names})


def _sorted(drawn: list[Any]) -> list[Any]:
    return sorted(drawn, key=codec.encode)


# --- full lists -----------------------------------------------------------------------------------------------------


def crowded(registry: Registry, values: Mapping[bytes, bytes], room: int = 0) -> dict[bytes, bytes]:
    """The same state with every list filled up to `room` places: what it named is there several times, under new ids.

    Nothing of it need be reachable: a list that is full must be met by a refusal all the same.
    """
    full = dict(values)
    fresh = random.Random(len(values))
    by_id: dict[bytes, list[bytes]] = {}
    for key in values:
        for size in (16, 32):
            by_id.setdefault(key[1 : 1 + size], []).append(key)
    for key, raw in values.items():
        slot = registry.slots[key[:1]]
        info = inspect.type_info(slot.kind)
        if not isinstance(info, inspect.StructType):
            continue
        value = slot.decode(raw)
        for field in info.fields:
            if isinstance(field.type, inspect.ListType):
                value = _filled(value, field.name, field.type, slot.bytes_max, room, fresh, by_id, full)
        full[key] = codec.encode(value)
    return full


def _filled(
    value: codec.Wire,
    name: str,
    info: inspect.ListType,
    bytes_max: int,
    room: int,
    fresh: random.Random,
    by_id: dict[bytes, list[bytes]],
    full: dict[bytes, bytes],
) -> codec.Wire:
    listed = list(getattr(value, name))
    while listed and len(listed) < (info.max_length or 0) - room:
        again = listed[0]
        if isinstance(again, bytes):
            listed.append(fresh.randbytes(len(again)))
            for key in by_id.get(again, []):
                copied = key[:1] + listed[-1] + key[1 + len(again) :]
                full.setdefault(copied, full[key])
        elif isinstance(again, codec.Wire) and isinstance(getattr(again, again.__struct_fields__[0]), bytes):
            first = again.__struct_fields__[0]
            size = len(getattr(again, first))
            listed.append(msgspec.structs.replace(again, **{first: fresh.randbytes(size)}))
        else:
            listed.append(again)
        longer = msgspec.structs.replace(value, **{name: listed})
        if len(codec.encode(longer)) > bytes_max:
            raise ValueError(f"{type(value).__name__}.{name} is full before it has {info.max_length} items")
        value = longer
    return value


# --- signatures -----------------------------------------------------------------------------------------------------


def mended(
    body: codec.Wire, name: str, sender: bytes, chain_id: bytes, state: StateReader, rng: random.Random
) -> codec.Wire:
    """The body with the signature that its contract asks for, where somebody is known who can give it."""
    key = getattr(body, "key", None) or getattr(body, "holder", None)
    signer = KEYS.get(key) if isinstance(key, bytes) else None
    digest = _digest(body, sender, chain_id, state)
    if signer is not None and digest is not None:
        field = "signature" if isinstance(body, ballot.Ready) else "proof"
        body = msgspec.structs.replace(body, **{field: signer.sign(digest)})
    if isinstance(body, ballot.Propose) and isinstance(body.change, ballot.AdmitInstitution):
        change = body.change
        digest = ballot.admission_digest(
            chain_id=chain_id,
            key=change.key,
            encryption_key=change.encryption_key,
            author_point=change.author_point,
            roles=change.roles,
        )
        if change.key in KEYS:
            change = msgspec.structs.replace(change, proof=KEYS[change.key].sign(digest))
            body = msgspec.structs.replace(body, change=change)
    for field in ("witness", "countersignature", "second"):
        if isinstance(getattr(body, field, None), Attestation):
            body = _attested(body, field, name, sender, chain_id, rng)
    return body


def _digest(body: codec.Wire, sender: bytes, chain_id: bytes, state: StateReader) -> Digest | None:
    match body:
        case identity.Enrol(kind, key, encryption_key):
            return identity.enrolment_digest(
                chain_id=chain_id, sponsor=sender, kind=kind, key=key, encryption_key=encryption_key
            )
        case identity.AddKey(key):
            return identity.addition_digest(chain_id=chain_id, identity=sender, key=key)
        case sessions.BeginSession(practitioner, key, not_after):
            return sessions.session_digest(
                chain_id=chain_id, institution=sender, practitioner=practitioner, key=key, not_after=not_after
            )
        case credentials.IssueCredential(credential, subject):
            return credentials.holder_digest(
                chain_id=chain_id, issuer=sender, credential=credential, subject=subject
            )
        case takeover.TakeOver(patient, key, encryption_key) | recovery.ProposeRecovery(
            patient, key, encryption_key
        ):
            return takeover.takeover_digest(
                chain_id=chain_id,
                patient=patient,
                key=key,
                encryption_key=encryption_key,
                generation=account_of(state, patient).generation,
            )
        case ballot.Ready(key, height, block_hash):
            return ballot.ready_digest(
                chain_id=chain_id, key=key, institution=sender, height=height, block_hash=block_hash
            )
    return None


def _attested(
    body: codec.Wire, field: str, name: str, sender: bytes, chain_id: bytes, rng: random.Random
) -> codec.Wire:
    given: Attestation = getattr(body, field)
    likely = [one for one in ACTORS if one.id == given.identity] if rng.random() < 0.7 else []
    who: Actor = rng.choice(likely or ACTORS)
    bare = msgspec.structs.replace(body, **{field: None})
    digest = attestation_digest(chain_id=chain_id, sender=sender, operation=name, body=bare)
    signed = Attestation(who.id, who.key.public, who.key.sign(digest))
    return msgspec.structs.replace(bare, **{field: signed})


# --- bytes ----------------------------------------------------------------------------------------------------------


def spoilt(rng: random.Random, raw: bytes) -> bytes:
    """Bytes that are no body: noise, or a body with bytes changed, cut, doubled or inserted."""
    way = rng.randrange(6)
    at = rng.randrange(len(raw) + 1)
    if way == 0:
        return rng.randbytes(rng.choice((0, 1, 2, 17, 200, 20_000)))
    if way == 1:
        return raw[:at]
    if way == 2:
        return raw[:at] + rng.randbytes(rng.randint(1, 4)) + raw[at:]
    if way == 3:
        return raw + raw
    if way == 4:
        return b"\x91" * rng.choice((5, 2_000, 16_000))
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice(
                (0, 0x80, 0x90, 0xC0, 0xCF, 0xDF, 0xFF, rng.randrange(256))
            )
    return bytes(changed)


def epochs_for(state: StateReader, patient: bytes, rng: random.Random) -> list[records.BeginEpoch]:
    """An epoch for each of the patient's compartments, as a take-over needs them."""
    opened = records.PATIENTS.get(state, patient)
    points = [w.some_point(f"fuzz/epoch/{rng.randrange(8)}") for _ in range(2)]
    custodians = [w.NORTH.id, w.SOUTH.id]
    return [records.BeginEpoch(one, points, custodians) for one in (opened.compartments if opened else [])]

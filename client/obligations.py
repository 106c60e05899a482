"""The conditions of a consent, sealed to the custodians who must ask them: nobody else reads what they are about.

    sealed = MAGIC || canonical [slots, key commitment, encrypted conditions]

A random key encrypts the document; each custodian has the key in a box of its own. The commitment to the key makes all
of them read the same document. The chain carries the digest of all these bytes in the consent, and vaults keep them by
it, as they keep envelopes. The document names its consent, so that it says nothing of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from nacl.utils import random

from consilium.client import boxes
from consilium.client.envelope import HeaderFields, envelope_digest, parse, reference_tag
from consilium.client.sharing import CUSTODIANS_MAX
from consilium.contracts.conditions import (
    CONDITIONS_BYTES_MAX,
    CONDITIONS_VERSION,
    Condition,
    Conditions,
    RecordFacts,
)
from consilium.ledger import codec
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

MAGIC: Final = b"consilium obligations 1\n"
SEALED_BYTES_MAX: Final = CONDITIONS_BYTES_MAX + 8 * 1024
SLOT_BYTES: Final = 80
GRAIN_BYTES: Final = 1_024

_COMMITMENT: Final = Tag("consilium/obligations-key/1")
_BINDING: Final = Tag("consilium/obligations/1")

Slot = Annotated[bytes, msgspec.Meta(min_length=SLOT_BYTES, max_length=SLOT_BYTES)]


class _Sealed(codec.Wire, frozen=True):
    slots: Annotated[tuple[Slot, ...], msgspec.Meta(min_length=1, max_length=CUSTODIANS_MAX)]
    key_commitment: codec.Bytes32
    body: Annotated[bytes, msgspec.Meta(max_length=SEALED_BYTES_MAX)]


def is_sealed_conditions(raw: bytes) -> bool:
    """Whether bytes in a vault are conditions and no envelope: no envelope begins like this."""
    return raw.startswith(MAGIC)


def digest_of_sealed(raw: bytes) -> bytes:
    """Under what a vault keeps these bytes, an envelope or conditions. Raises Refused where they are neither."""
    if is_sealed_conditions(raw):
        parse_sealed(raw)
    else:
        parse(raw)
    return envelope_digest(raw)


def seal_conditions(
    chain_id: bytes, consent: bytes, conditions: Sequence[Condition], custodians: Iterable[bytes]
) -> tuple[bytes, bytes]:
    """The sealed document and its digest. `custodians` are X25519 keys of all who must ask the conditions."""
    document = codec.encode(Conditions(CONDITIONS_VERSION, chain_id, consent, list(conditions)))
    codec.decode(document, Conditions, CONDITIONS_BYTES_MAX)
    plain = len(document).to_bytes(4, "big") + document
    plain += bytes(-len(plain) % GRAIN_BYTES)
    key = random(boxes.CIPHER_KEY_BYTES)
    sealed = _Sealed(
        tuple(boxes.seal_to(public, key) for public in dict.fromkeys(custodians)),
        _COMMITMENT.digest(key),
        boxes.encrypt(key, boxes.SINGLE_USE, plain, _BINDING.digest(chain_id)),
    )
    raw = MAGIC + codec.encode(sealed)
    parse_sealed(raw)
    return raw, envelope_digest(raw)


def parse_sealed(raw: bytes) -> _Sealed:
    """Whether bytes could be sealed conditions, as a vault asks. Raises Refused `sealing.damaged`, `codec.*`."""
    if not is_sealed_conditions(raw):
        raise Refused("sealing.damaged", "these are no sealed conditions")
    return codec.decode(raw[len(MAGIC) :], _Sealed, SEALED_BYTES_MAX)


def open_conditions(
    raw: bytes, digest: bytes, chain_id: bytes, consents: Sequence[bytes], custodian: boxes.BoxKey
) -> Conditions:
    """The document that a consent's digest stands for. `consents` are the consent and what it was passed on from.

    Raises Refused: `sealing.damaged` where it is not the committed one, `sealing.wrong_key` where it is not sealed to
    this custodian, `codec.*`.
    """
    if envelope_digest(raw) != digest:
        raise Refused("sealing.damaged", "these are not the conditions that the consent names")
    sealed = parse_sealed(raw)
    key = _key(sealed, custodian)
    plain = boxes.decrypt(key, boxes.SINGLE_USE, sealed.body, _BINDING.digest(chain_id))
    end = 4 + int.from_bytes(plain[:4], "big")
    document = codec.decode(plain[4:end], Conditions, CONDITIONS_BYTES_MAX)
    if (document.version, document.chain_id) != (CONDITIONS_VERSION, chain_id):
        raise Refused("sealing.damaged", "the conditions are of another version or network")
    if document.consent not in consents:
        raise Refused("sealing.damaged", "the conditions are another consent's")
    return document


def facts_of(institution: bytes, fields: HeaderFields) -> RecordFacts:
    """What conditions are asked about: a record's author and its author's header."""
    names = [fields.full_url] if fields.full_url else []
    if fields.resource_id:
        names.append(f"{fields.resource_type}/{fields.resource_id}")
    return RecordFacts(
        institution=institution,
        resource_type=fields.resource_type,
        instances=tuple(reference_tag(name) for name in names),
        authors=fields.authors,
        related=fields.related,
        labels=fields.labels,
        period_start_ms=fields.period_start_ms,
        period_end_ms=fields.period_end_ms,
        is_cut=fields.is_cut,
    )


def _key(sealed: _Sealed, custodian: boxes.BoxKey) -> bytes:
    for slot in sealed.slots:
        try:
            key = boxes.open_sealed(custodian, slot)
        except Refused:
            continue
        if _COMMITMENT.digest(key) != sealed.key_commitment:
            raise Refused("sealing.damaged", "the key is not the one that was committed to")
        return key
    raise Refused("sealing.wrong_key", "the conditions are not sealed to this custodian")

"""Canonical MessagePack: bounded, typed decoding; `encode(decode(raw)) == raw`, or the bytes are refused.

Types are frozen msgspec Structs, encoded as arrays in field order. Decoding is driven by the type: the decoder stops
at the first byte that the type does not allow, so hostile bytes never grow into an untyped tree. MessagePack has
several encodings of one value (longer integers, longer lengths), and decoders accept them all: re-encoding must give
the very bytes back, so that a value has one encoding and hashes of raw bytes can be compared.

Source: the MessagePack specification, github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec

from consilium.ledger.errors import Refused

_T = TypeVar("_T")

UINT_MAX = 2**63 - 1

Uint = Annotated[int, msgspec.Meta(ge=0, le=UINT_MAX)]
"""An unsigned integer that every signed 64-bit consumer can hold."""
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of every value that is hashed, signed, stored or sent: an array of its fields, in their order.

    Such values are trees, so the collector of cycles need not look at them: there are hundreds of thousands.
    """


encode: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode
"""The canonical bytes of a Wire value (or of a plain list, int, bytes, str, None, bool of such)."""


_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return _decoders.setdefault(kind, msgspec.msgpack.Decoder(kind, strict=True))


def fits(raw: bytes, kind: Any) -> bool:
    """Whether bytes that `encode` made of a value keep the bounds, which making a Struct does not look at."""
    decoder = _decoders.get(kind) or _decoder(kind)
    try:
        decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def decode(raw: bytes, kind: type[_T], bytes_max: int) -> _T:
    """Decode one value of `kind` from exactly `raw`.

    Raises Refused: `codec.oversized` beyond `bytes_max`, `codec.malformed` when the bytes are no such value,
    `codec.not_canonical` when they are not its canonical encoding.
    """
    if len(raw) > bytes_max:
        raise Refused("codec.oversized", f"{_name(kind)} has {len(raw)} bytes; the limit is {bytes_max}")
    decoder = _decoders.get(kind) or _decoder(kind)
    try:
        value: _T = decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("codec.malformed", f"no {_name(kind)}: {error}") from None
    if encode(value) != raw:
        raise Refused("codec.not_canonical", f"{_name(kind)} is not canonically encoded")
    return value


def _name(kind: Any) -> str:
    """For messages: a union has no name of its own."""
    return getattr(kind, "__name__", str(kind))

"""A second verifier of receipts: slow, and written from docs/receipts.md and docs/state.md alone.

Nothing here comes from the product: hashlib, msgpack and PyNaCl only. `verify` returns what is proved, or raises Wrong.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

UINT_MAX = 2**63 - 1


class Wrong(Exception):
    """The receipt proves nothing."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(tag: str, data: bytes) -> bytes:
    return sha(bytes([len(tag)]) + tag.encode("ascii") + b"\x00" + data)


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


# ---- shapes: a shape is a function that refuses what does not fit it


def read(raw: bytes, bytes_max: int) -> Any:
    need(len(raw) <= bytes_max, "too long")
    try:
        value = msgpack.unpackb(raw, use_list=True, strict_map_key=True)
        again = pack(value)
    except (ValueError, TypeError, msgpack.UnpackException, OverflowError, RecursionError) as error:
        raise Wrong(f"no MessagePack: {error}") from None
    need(again == raw, "not in its shortest form")
    return value


def uint(value: Any, highest: int = UINT_MAX, lowest: int = 0) -> None:
    need(type(value) is int and lowest <= value <= highest, "a number")


def blob(value: Any, longest: int, shortest: int = 0) -> None:
    need(type(value) is bytes and shortest <= len(value) <= longest, "a byte string")


def exactly(value: Any, size: int) -> None:
    blob(value, size, size)


def text(value: Any, longest: int, shortest: int = 0) -> None:
    need(type(value) is str and shortest <= len(value) <= longest, "a text")


def array(value: Any, longest: int, shortest: int = 0) -> list[Any]:
    need(type(value) is list and shortest <= len(value) <= longest, "an array")
    return list(value)


def fields(value: Any, count: int) -> list[Any]:
    return array(value, count, count)


def check_path(value: Any) -> None:
    left, siblings = fields(value, 2)
    uint(left)
    for sibling in array(siblings, 63):
        exactly(sibling, 32)


def check_header(value: Any) -> None:
    header = fields(value, 13)
    for place in (0, 2, 4, 6):
        uint(header[place])
    for place in (1, 3, 5, 7, 8, 9, 10, 11, 12):
        exactly(header[place], 32)


def check_validators(value: Any, fewest: int) -> None:
    for one in array(value, 60, fewest):
        key, institution = fields(one, 2)
        exactly(key, 32)
        exactly(institution, 16)


def check_sealing(value: Any) -> None:
    view, sealers, signatures = fields(value, 3)
    uint(view)
    uint(sealers)
    blob(signatures, 60 * 64)


def check_statement(value: Any) -> None:
    parts = array(value, 6, 4)
    match parts[0]:
        case "transaction":
            _, transaction, author, sequence, in_batch, in_block = fields(parts, 6)
            blob(transaction, 131_072)
            exactly(author, 32)
            uint(sequence)
            check_path(in_batch)
            check_path(in_block)
        case "verdict":
            _, transaction, leaf, in_block = fields(parts, 4)
            blob(transaction, 131_072)
            blob(leaf, 8 * 1024 * 1024)
            check_path(in_block)
        case "state":
            _, key, held, proof = fields(parts, 4)
            blob(key, 128, 1)
            if held is not None:
                blob(held, 65_536)
            steps, bucket = fields(proof, 2)
            for step in array(steps, 64):
                bitmap, siblings = fields(step, 2)
                uint(bitmap, 65_535, 1)
                blob(siblings, 512)
            blob(bucket, 24 * 64)
        case _:
            raise Wrong("no such statement")


def check_receipt(value: Any) -> None:
    version, statement, header, extension, sealing, start, changes, checksum = fields(value, 8)
    need(version == 1 and type(version) is int, "version")
    check_statement(statement)
    check_header(header)
    if extension is not None:
        later, in_history = fields(extension, 2)
        check_header(later)
        check_path(in_history)
    if sealing is not None:
        check_sealing(sealing)
    if start is not None:
        trusted, validators = fields(start, 2)
        check_header(trusted)
        check_validators(validators, 1)
    for change in array(changes, 1_024):
        later, seals, removed, added = fields(change, 4)
        check_header(later)
        check_sealing(seals)
        for place in array(removed, 60):
            uint(place, 59)
        check_validators(added, 0)
    exactly(checksum, 32)


# ---- hashes


def chain_of(genesis_text: bytes) -> tuple[bytes, list[Any]]:
    """The chain id and the founders' set, from the genesis file."""
    document = json.loads(genesis_text)
    validators = [[bytes.fromhex(v["key"]), bytes.fromhex(v["institution"])] for v in document["validators"]]
    operations = [[o["name"], bytes.fromhex(o["body"])] for o in document["operations"]]
    contents = [1, document["network"], document["time_ms"], validators, operations]
    chain_id = tagged("consilium/genesis/1", pack(contents))
    need(chain_id.hex() == document["chain_id"], "the genesis file was changed")
    return chain_id, sorted(validators)


def header_hash(header: list[Any]) -> bytes:
    return tagged("consilium/header/1", pack(header))


def set_hash(validators: list[Any]) -> bytes:
    return tagged("consilium/validators/1", pack([validators]))


def good(key: bytes, digest: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(key).verify(digest, signature)
    except BadSignatureError:
        return False
    return True


def transaction_id(raw: bytes, chain_id: bytes) -> bytes:
    """The id of a well-formed transaction whose signature is good."""
    transaction = fields(read(raw, 131_072), 8)
    version, chain, sender, key, nonce, valid_until, operations, signature = transaction
    need(version == 1 and type(version) is int and chain == chain_id, "another version or chain")
    exactly(sender, 16)
    exactly(key, 32)
    exactly(nonce, 16)
    uint(valid_until)
    for operation in array(operations, 256, 1):
        name, body = fields(operation, 2)
        text(name, 48, 1)
        blob(body, 16_384)
    exactly(signature, 64)
    identifier = tagged("consilium/transaction/1", pack(transaction[:7]))
    need(good(key, identifier, signature), "the transaction's signature")
    return identifier


def top_of_path(data: bytes, path: Any) -> bytes:
    left, siblings = path
    need(left < 2 ** len(siblings), "sides beyond the path")
    r = sha(b"\x00" + data)
    for i, sibling in enumerate(siblings):
        if left & 2**i:
            need(sibling != r, "an equal half on the left")
            r = sha(b"\x01" + sibling + r)
        else:
            r = sha(b"\x01" + r + sibling)
    return r


def check_state(root: bytes, key: bytes, held: bytes | None, proof: Any) -> None:
    steps, bucket = proof
    path = tagged("consilium/state-key/1", key).hex()
    x: bytes | None = None
    if bucket:
        need(len(bucket) % 64 == 0, "a bucket of pairs")
        pairs = [(bucket[i : i + 32].hex(), bucket[i + 32 : i + 64]) for i in range(0, len(bucket), 64)]
        hashes = [pair[0] for pair in pairs]
        need(hashes == sorted(set(hashes)), "a bucket in order")
        need(all(h[: len(steps)] == path[: len(steps)] for h in hashes), "a bucket of this path")
        wanted = None if held is None else tagged("consilium/state-value/1", held)
        need(dict(pairs).get(path) == wanted, "the value")
        x = tagged("consilium/state-bucket/1", bucket)
    else:
        need(held is None, "a value from nowhere")
        if not steps:
            need(root == tagged("consilium/state-empty/1", b""), "the state is not empty")
            return
    for d in reversed(range(len(steps))):
        slot = int(path[d], 16)
        bitmap, siblings = steps[d]
        present = [s for s in range(16) if bitmap & 2**s]
        need((slot in present) == (x is not None), "the slot on the path")
        others = [s for s in present if s != slot]
        need(len(siblings) == 32 * len(others), "the siblings")
        children = {s: siblings[32 * i : 32 * i + 32] for i, s in enumerate(others)}
        if x is not None:
            children[slot] = x
        joined = b"".join(children[s] for s in sorted(children))
        x = tagged("consilium/state-branch/1", bitmap.to_bytes(2, "big") + joined)
    need(x == root, "the state root")


# ---- steps 1 to 7


def check_sealed(header: list[Any], sealing: list[Any], validators: list[Any]) -> None:
    n = len(validators)
    f = (n - 1) // 3
    quorum = -(-(n + f + 1) // 2)
    view, sealers, signatures = sealing
    places = [i for i in range(63) if sealers & 2**i]
    need(header[10] == set_hash(validators), "the header names another set")
    need(len(places) == quorum and max(places) < n, "exactly a quorum")
    need(len(signatures) == 64 * quorum, "a signature each")
    digest = tagged("consilium/seal/1", header[1] + u64(header[2]) + u64(view) + header_hash(header))
    for number, i in enumerate(places):
        need(good(validators[i][0], digest, signatures[64 * number : 64 * number + 64]), f"the seal of {i}")


def in_order(validators: list[Any]) -> list[Any]:
    keys = [v[0] for v in validators]
    need(keys == sorted(set(keys)), "validators in order")
    return validators


def final_set(receipt: list[Any], founders: list[Any], top: list[Any]) -> list[Any]:
    current, height = founders, 0
    if receipt[5] is not None:
        trusted, current = receipt[5]
        height = trusted[2]
        need(set_hash(in_order(current)) == trusted[11] and height < top[2], "the start")
    for header, sealing, removed, added in receipt[6]:
        need(height < header[2] < top[2], "changes in order")
        check_sealed(header, sealing, current)
        need(removed or added, "a change that changes")
        need(removed == sorted(set(removed)) and all(p < len(current) for p in removed), "places")
        need(in_order(added) is not None and not any(v in current for v in added), "added ones are new")
        kept = [v for place, v in enumerate(current) if place not in removed]
        current = in_order(sorted(kept + added))
        need(1 <= len(current) <= 60 and set_hash(current) == header[11], "the set handed over to")
        height = header[2]
    return current


def verify(raw: bytes, genesis_text: bytes, trusted: bytes | None = None) -> dict[str, Any]:
    """What the receipt proves: kind, height, and what the kind has. Raises Wrong."""
    receipt = read(raw, 16 * 1024 * 1024)
    check_receipt(receipt)
    chain_id, founders = chain_of(genesis_text)
    _, statement, header, extension, sealing, start, changes, checksum = receipt
    need(checksum == tagged("consilium/receipt/1", raw[:-34]), "checksum")
    top = header if extension is None else extension[0]
    headers = [header, top, *(change[0] for change in changes)] + ([start[0]] if start else [])
    need(all(h[0] == 1 and h[1] == chain_id for h in headers), "version and chain of each header")
    if sealing is None:
        need(start is None and changes == [] and header_hash(top) == trusted, "a trusted top")
    elif start is not None:
        need(header_hash(start[0]) == trusted, "a trusted start")
    elif trusted is not None:
        need(trusted in [header_hash(h) for h in headers], "the trusted header is on the way")
    if sealing is not None:
        check_sealed(top, sealing, final_set(receipt, founders, top))
    if extension is not None:
        need(top[2] > header[2], "a later header")
        need(top_of_path(header_hash(header), extension[1]) == top[12], "history")
    return prove(statement, header, chain_id)


def prove(statement: list[Any], header: list[Any], chain_id: bytes) -> dict[str, Any]:
    kind, height = statement[0], header[2]
    if kind == "transaction":
        _, transaction, author, sequence, in_batch, in_block = statement
        identifier = transaction_id(transaction, chain_id)
        root = top_of_path(transaction, in_batch)
        batch = tagged("consilium/batch/1", chain_id + author + u64(sequence) + root)
        need(top_of_path(batch, in_block) == header[7], "batches root")
        return {"kind": kind, "height": height, "transaction_id": identifier}
    need(height >= 1, "genesis certifies nothing")
    if kind == "state":
        _, key, held, proof = statement
        check_state(header[8], key, held, proof)
        return {"kind": kind, "height": height - 1, "key": key, "value": held}
    _, transaction, leaf, in_block = statement
    identifier = transaction_id(transaction, chain_id)
    subject, code, failed, results = fields(read(leaf, 8 * 1024 * 1024), 4)
    text(code, 64)
    if failed is not None:
        uint(failed, 255)
    for result in array(results, 256):
        blob(result, 16_384)
    need(subject == identifier, "a verdict on another transaction")
    need(top_of_path(leaf, in_block) == header[9], "receipts root")
    return {"kind": kind, "height": height - 1, "transaction_id": identifier, "code": code}

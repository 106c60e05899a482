"""Canaries: marked words in everything that people put in, searched for in everything that nodes keep.

`plant` writes a word of its own into each field of a FHIR document in which people write what they like: names,
addresses, identifiers, notes. `find` looks for the words in files, byte by byte, as themselves and in the encodings in
which they would slip through: UTF-16, base64 at every alignment, hexadecimal, reversed, and the common digests of the
whole field. What is compressed or encrypted is not found, so the files that are searched must not be compressed; the
stores are not, and a test plants each form to see that it would be noticed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STEM: Final = "zqkanari"
"""Every canary begins with it, so that one search finds them all. No word of any language, nor of FHIR."""
NAMES: Final = frozenset({"family", "given", "prefix", "suffix", "name", "line", "city", "district"})
NOTES: Final = frozenset({"text", "display", "title", "description", "comment", "valueString"})
VALUED: Final = frozenset({"identifier", "telecom"})
"""Elements whose `value` is somebody's number or address."""
DIGESTS: Final = ("sha256", "sha1", "md5", "blake2b")
DIGESTED_MAX: Final = 64
"""Fields whose digests are looked for: the first ones, which are those of the patient."""
WORD_CHARS_MIN: Final = 8
"""A shorter word may stand in ciphertext by chance, in one of its forms."""
OVERLAP_BYTES: Final = 256
CHUNK_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Planted:
    """A document with canaries in it, and the texts of all fields that hold one."""

    raw: bytes
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where something was found, in which form, and what stands around it."""

    file: Path
    offset: int
    form: str


def plant(raw: bytes, label: str) -> Planted:
    """Write canaries into a JSON document. `label` makes them others than those of another document."""
    texts: list[str] = []

    def marked(text: str) -> str:
        word = hashlib.sha256(f"{label}/{len(texts)}".encode()).hexdigest()[:10]
        texts.append(f"{text} {STEM}{word}")
        return texts[-1]

    def walk(value: Any, key: str, inside: str) -> Any:
        if isinstance(value, dict):
            return {name: walk(item, name, key) for name, item in value.items()}
        if isinstance(value, list):
            return [walk(item, key, inside) for item in value]
        if isinstance(value, str) and (key in NAMES | NOTES or (key == "value" and inside in VALUED)):
            return marked(value)
        return value

    planted = walk(json.loads(raw), "", "")
    return Planted(json.dumps(planted, ensure_ascii=False, indent=1).encode(), tuple(texts))


def words_in(raw: bytes) -> list[str]:
    """The names, addresses and numbers of people in a JSON document that are long enough to be nothing else."""
    found: dict[str, None] = {}

    def is_word(value: Any) -> bool:
        return isinstance(value, str) and len(value) >= WORD_CHARS_MIN and value.isascii()

    def walk(value: Any, key: str, inside: str) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                walk(item, name, key)
        elif isinstance(value, list):
            for item in value:
                walk(item, key, inside)
        elif is_word(value) and (key in NAMES or (key == "value" and inside in VALUED)):
            found[value] = None

    walk(json.loads(raw), "", "")
    return list(found)


def forms_of(word: str) -> dict[str, bytes]:
    """The encodings in which a word would slip through, by name."""
    plain = word.encode()
    forms = {
        "utf-8": plain,
        "upper case": word.upper().encode(),
        "utf-16-le": word.encode("utf-16-le"),
        "utf-16-be": word.encode("utf-16-be"),
        "hex": plain.hex().encode(),
        "HEX": plain.hex().upper().encode(),
        "reversed": plain[::-1],
    }
    for shift in range(3):
        # What comes before shares a group of three bytes with the word, what comes after too: both are left out.
        whole = base64.b64encode(bytes(shift) + plain)
        inner = whole[-(-shift * 4 // 3) : len(whole) - 4]
        forms[f"base64 at {shift}"] = inner
        forms[f"base64url at {shift}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def needles_of(texts: Iterable[str], words: Iterable[str] = (STEM,)) -> dict[str, bytes]:
    """What is searched for, by name: all forms of the words, and digests of whole texts."""
    needles = {f"{word} as {name}": form for word in words for name, form in forms_of(word).items()}
    for number, text in enumerate(texts):
        if number >= DIGESTED_MAX:
            break
        for algorithm in DIGESTS:
            digest = hashlib.new(algorithm, text.encode()).digest()
            needles[f"{algorithm} of field {number}"] = digest
            needles[f"{algorithm} of field {number}, hex"] = digest.hex().encode()
    return needles


def find(folders: Iterable[Path], needles: Mapping[str, bytes]) -> Iterator[Sighting]:
    """Every file below the folders that holds a needle; the first place for each of them."""
    for path in files_below(folders):
        seen: set[str] = set()
        for offset, chunk in _chunks(path):
            for form, needle in needles.items():
                at = -1 if form in seen else chunk.find(needle)
                if at >= 0:
                    seen.add(form)
                    yield Sighting(path, offset + at, form)


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Every regular file below the folders, in a fixed order."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """A file piece by piece, each with the end of the one before. A file that a running node took away has none."""
    offset, kept = 0, b""
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield offset - len(kept), kept + piece
                offset += len(piece)
                kept = (kept + piece)[-OVERLAP_BYTES:]
    except FileNotFoundError:
        return

"""The search for canaries finds every form that it claims to find."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from consilium.gateway.bundle import parse_bundle
from consilium.gateway.importing import prepare
from consilium.gateway.synthetic import generate_bundle
from scripts import canaries
from scripts.canaries import STEM, Sighting, find, needles_of, plant

NOISE = b"\x00\xffnoise"


def sightings(tmp_path: Path, content: bytes, texts: tuple[str, ...] = ()) -> list[Sighting]:
    (tmp_path / "deep").mkdir(exist_ok=True)
    (tmp_path / "deep" / "file").write_bytes(content)
    return list(find([tmp_path], needles_of(texts)))


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize(
    "encode",
    [
        bytes,
        bytes.upper,
        lambda raw: raw.decode().encode("utf-16-le"),
        lambda raw: raw.decode().encode("utf-16-be"),
        lambda raw: raw.hex().encode(),
        lambda raw: raw.hex().upper().encode(),
        lambda raw: raw[::-1],
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda raw: base64.b64encode(raw).rstrip(b"="),
    ],
)
def test_every_form_is_found_wherever_it_stands(tmp_path: Path, encode, length: int) -> None:
    text = "é" * length + "x" * length + STEM + "0123456789 and more"
    assert sightings(tmp_path, NOISE + encode(text.encode()) + NOISE)


@pytest.mark.parametrize("algorithm", canaries.DIGESTS)
def test_digests_of_a_field_are_found(tmp_path: Path, algorithm: str) -> None:
    texts = ("Ada " + STEM + "1", "Bob " + STEM + "2")
    digest = hashlib.new(algorithm, texts[1].encode()).digest()
    assert sightings(tmp_path, NOISE + digest, texts)
    assert sightings(tmp_path, NOISE + digest.hex().encode(), texts)


def test_what_lies_across_two_pieces_of_a_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "CHUNK_BYTES", 300)
    for before in range(290, 305):
        (found,) = sightings(tmp_path, os.urandom(1).replace(b"z", b"a") * before + STEM.encode())
        assert found.offset == before


def test_nothing_is_found_in_noise(tmp_path: Path) -> None:
    texts = plant(generate_bundle(1), "noise").texts
    assert sightings(tmp_path, os.urandom(1 << 20), texts) == []


def test_a_planted_bundle_is_still_a_bundle() -> None:
    planted = plant(generate_bundle(7), "ada")
    prepared = prepare(parse_bundle(planted.raw))
    assert len(prepared.payloads) == len(parse_bundle(generate_bundle(7)).entries)
    patient = json.loads(planted.raw)["entry"][0]["resource"]
    assert STEM in patient["name"][0]["family"]
    assert STEM in patient["identifier"][0]["value"]
    assert len(set(planted.texts)) == len(planted.texts) > 100
    assert set(planted.texts).isdisjoint(plant(generate_bundle(7), "bob").texts)


def test_words_are_those_of_people_and_long_enough() -> None:
    raw = json.dumps(
        {
            "name": [{"family": "Featherstonehaugh", "given": ["Jo"]}],
            "identifier": [{"value": "999-123-4567"}],
            "valueQuantity": {"value": 7, "unit": "milligrams"},
            "code": {"text": "a long note of somebody"},
            "address": [{"city": "Zürich-Oerlikon", "line": ["12 Long Street"]}],
        }
    ).encode()
    assert canaries.words_in(raw) == ["Featherstonehaugh", "999-123-4567", "12 Long Street"]

"""Three readers, three errors; and every code has its cause and its remedy."""

from __future__ import annotations

import copy
import pickle

import pytest

from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import (
    DETAIL_CHARS_MAX,
    ConsiliumError,
    InvariantBroken,
    PeerFault,
    Refused,
    sole_error,
)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_a_refusal_knows_its_entry(code: str) -> None:
    refusal = Refused(code, "because")
    assert (refusal.code, refusal.detail, refusal.entry) == (code, "because", CATALOGUE[code])
    assert str(refusal) == f"{code}: because"
    assert str(Refused(code)) == f"{code}: {CATALOGUE[code].cause}"


def test_a_code_that_is_not_in_the_catalogue_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Refused("no.such_code")


def test_details_are_bounded() -> None:
    assert len(Refused("codec.malformed", "x" * 10 * DETAIL_CHARS_MAX).detail) == DETAIL_CHARS_MAX


def test_words_are_more_than_an_id() -> None:
    cause = Refused("identity.unknown").entry.cause
    assert Refused("identity.unknown").words == cause
    assert Refused("identity.unknown", "ab" * 16).words == f"{'ab' * 16}: {cause}"
    assert Refused("identity.unknown", "ab" * 32).words == f"{'ab' * 32}: {cause}"
    for said in ("abc", "ab" * 15, "at most 2"):
        assert Refused("identity.unknown", said).words == said


def test_faults_have_a_weight() -> None:
    assert (PeerFault("noise").weight, PeerFault("lies", 100).weight) == (10, 100)
    assert PeerFault("lies", 100).reason == "lies"


def test_one_root_and_no_kinship_besides() -> None:
    kinds = (Refused, PeerFault, InvariantBroken)
    assert all(issubclass(kind, ConsiliumError) for kind in kinds)
    assert [
        (one, other) for one in kinds for other in kinds if one is not other and issubclass(one, other)
    ] == []


@pytest.mark.parametrize("error", [Refused("codec.malformed", "d"), PeerFault("r", 3), InvariantBroken("w")])
def test_they_cross_process_borders(error: ConsiliumError) -> None:
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is type(error)
        assert copied.args == error.args
        assert str(copied) == str(error)


def test_a_group_of_one_is_that_one() -> None:
    broken = InvariantBroken("roots differ")
    assert sole_error(ExceptionGroup("tasks", [ExceptionGroup("more", [broken])])) is broken
    several = ExceptionGroup("tasks", [broken, Refused("rpc.timeout")])
    assert sole_error(several) is several
    assert sole_error(broken) is broken

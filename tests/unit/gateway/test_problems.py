"""Lists of faults become one refusal: bounded, and the same after a trip between processes."""

from __future__ import annotations

import pickle

from consilium.gateway.problems import PROBLEMS_MAX, Problem, refuse, shown
from consilium.ledger.errors import DETAIL_CHARS_MAX


def test_the_first_fault_gives_the_code() -> None:
    first = Problem("bundle.invalid_resource", "Patient.gender", "is wrong", 3, "urn:uuid:1")
    refused = refuse([first, Problem("bundle.malformed", "", "has no request", 4)])
    assert refused.code == "bundle.invalid_resource"
    assert refused.detail == "entry[3] (urn:uuid:1) Patient.gender: is wrong; entry[4] has no request"
    assert refused.problems[0] is first


def test_many_faults_are_counted() -> None:
    refused = refuse([Problem("bundle.malformed", "x" * 90, "y", index) for index in range(500)])
    assert len(refused.problems) == PROBLEMS_MAX
    assert len(refused.detail) <= DETAIL_CHARS_MAX
    assert refused.detail.count("entry[") + int(refused.detail.split()[-2]) == 500


def test_a_fault_of_any_length_is_shown() -> None:
    assert refuse([Problem("bundle.malformed", "p", "r" * 9_000)]).detail


def test_pickles() -> None:
    refused = refuse([Problem("bundle.malformed", "p", "r")])
    again = pickle.loads(pickle.dumps(refused))
    assert (again.code, again.detail, again.problems) == (refused.code, refused.detail, refused.problems)


def test_values_are_shortened() -> None:
    assert shown("final") == "'final'"
    assert len(shown("x" * 1_000)) == 40
    assert "\n" not in shown("a\nb")

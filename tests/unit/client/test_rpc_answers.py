"""What nodes answer, from JSON: a reason that is unknown here is no code of ours, and nothing is printed as it came."""

from __future__ import annotations

import msgspec
import pytest

from consilium.client import rpc_answers
from consilium.client import rpc_values as values


def submission(**fields: object) -> rpc_answers.Submission:
    return rpc_answers.submission_of(values.decode_json(msgspec.json.encode(fields), values.SubmissionValue))


def test_an_admitted_transaction_has_no_code() -> None:
    found = submission(id="ab" * 32, accepted=True)
    assert (found.id, found.code, found.detail) == (b"\xab" * 32, None, "")


def test_a_refusal_says_why_and_when_to_try_again() -> None:
    error = {"code": "mempool.full", "detail": "5 wait", "retry_after_ms": 250}
    found = submission(id=None, accepted=False, error=error)
    assert (found.id, found.code, found.detail, found.retry_after_ms) == (None, "mempool.full", "5 wait", 250)
    assert submission(id=None, accepted=False).code == "rpc.remote_error"


def test_what_a_custodian_withholds_is_named_and_cleaned() -> None:
    withheld = [
        {"verdict": 0, "record": "cd" * 16, "code": "vault.unknown", "detail": "gone\x1b[31m"},
        {"verdict": 1, "record": None, "code": "nothing.we_know", "detail": ""},
    ]
    raw = {"sealed_partials": "cGFydGlhbHM=", "envelopes": ["ZW52"], "withheld": withheld, "next": 7}
    found = rpc_answers.released_of(values.decode_json(msgspec.json.encode(raw), values.ReleaseValue))
    assert (found.sealed_partials, found.envelopes, found.next) == (b"partials", (b"env",), 7)
    assert [(one.verdict, one.record, one.code) for one in found.withheld] == [
        (0, b"\xcd" * 16, "vault.unknown"),
        (1, None, "rpc.remote_error"),
    ]
    assert "\x1b" not in found.withheld[0].detail


@pytest.mark.parametrize("certified", [True, False])
def test_a_committed_transaction_carries_the_leaf_that_the_chain_has(certified: bool) -> None:
    raw = {
        "id": "ab" * 32, "height": 4, "index": 2, "time_ms": 9, "code": "consent.unknown", "failed": 1,
        "results": [], "certified": certified, "detail": "evil\x07words",
    }  # fmt: skip
    found = rpc_answers.committed_of(values.decode_json(msgspec.json.encode(raw), values.CommittedValue))
    assert (found.id, found.height, found.index, found.certified) == (b"\xab" * 32, 4, 2, certified)
    assert (found.leaf.transaction, found.leaf.code, found.leaf.failed) == (
        b"\xab" * 32,
        "consent.unknown",
        1,
    )
    assert found.detail.startswith("evil")
    assert "\x07" not in found.detail

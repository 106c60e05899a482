"""Limits that two floors have to state apart, because neither may know the other, are the same."""

from __future__ import annotations

from consilium.client import envelope, sharing
from consilium.contracts import records
from consilium.storage import envelopes


def test_an_envelope_is_as_long_for_who_seals_as_for_who_stores() -> None:
    assert envelope.ENVELOPE_BYTES_MAX == envelopes.ENVELOPE_BYTES_MAX


def test_a_secret_is_split_among_as_many_as_the_ledger_takes() -> None:
    assert sharing.CUSTODIANS_MAX == records.CUSTODIANS_MAX

"""The way in: a session with a node, for the network that is meant."""

from __future__ import annotations

import inspect

import pytest

from consilium.client import sdk
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from tests.architecture.rules import PROJECT
from tests.unit.node.fake_node import GENESIS, served

BELOW = {
    "boxes",
    "classes",
    "did",
    "envelope",
    "group",
    "obligations",
    "release",
    "rpc",
    "rpc_answers",
    "rpc_emergency",
    "rpc_transport",
    "rpc_values",
    "sealing",
    "sealing_streams",
    "session",
    "sharing",
    "stream",
    "streaming",
    "subscription",
    "wallet",
    "wrapping",
}
"""Keys, formats and transport: what subjects are made of, and applications take values from."""


async def test_connect_gives_a_session_of_the_wallet() -> None:
    wallet = Wallet.create("ada")
    async with served() as running:
        async with sdk.connect(running.url, wallet, chain_id=GENESIS.chain_id) as session:
            assert (session.identity, session.chain_id) == (wallet.identity, GENESIS.chain_id)
        async with sdk.connect([running.url], wallet, sender=bytes([7]) * 16) as session:
            assert session.identity == bytes([7]) * 16


async def test_another_network_is_refused() -> None:
    async with served() as running:
        with pytest.raises(Refused, match=r"genesis\.wrong_network"):
            async with sdk.connect(running.url, Wallet.create("ada"), chain_id=bytes(32)):
                pass


def test_every_subject_is_here_and_on_the_page() -> None:
    """The one way in has all that applications do, whether the ledger hears of it or not."""
    offered = {name for name in sdk.__all__ if inspect.ismodule(getattr(sdk, name))}
    assert offered == {*sdk.SUBJECTS}
    page = (PROJECT / "docs" / "sdk.md").read_text("utf-8")
    for name, what in sdk.SUBJECTS.items():
        assert f"| `{name}` | {what} |" in page
        assert getattr(sdk, name).__doc__
    assert {one.__module__.rpartition(".")[2] for one in sdk.OPERATIONS.values()} <= offered


def test_what_is_not_here_is_below_it() -> None:
    """A module of `client` is a subject, or something that subjects are made of: a new one is put on one side."""
    modules = {path.stem for path in (PROJECT / "client").glob("*.py")} - {"__init__", "sdk"}
    assert modules - {*sdk.SUBJECTS} == BELOW

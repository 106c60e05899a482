"""The way in: a session with a node, for the network that is meant."""

from __future__ import annotations

import pytest

from consilium.client import sdk
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from tests.unit.node.fake_node import GENESIS, served


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

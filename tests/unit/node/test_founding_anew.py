"""Founding a network anew from the last certified header, as docs/consensus.md, "Restart", tells institutions to do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from consilium.client.wallet import Wallet
from consilium.consensus.messages import sign_prepare, verify_message
from consilium.ledger.block import Block
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.genesis import Genesis, genesis_block, genesis_from_json, genesis_to_json
from consilium.ledger.transaction import Operation, sign_transaction, verify_transaction
from consilium.node import files, founding
from consilium.node.config import load_config
from consilium.node.founding import Place
from consilium.node.stores import init_stores, read_genesis

OLD_MS, NEW_MS = 1_800_000_000_000, 1_900_000_000_000
FOUNDERS = ("anna", "bert", "carl", "dora")


def found(folder: Path, network: str, time_ms: int) -> Genesis:
    """New folders and cards of every institution, the genesis that follows from them, and stores on it."""
    cards = [
        founding.make_folder(
            folder / name,
            name,
            Place(f"{name}.example:7100", ("127.0.0.1", 7100)),
            "a passphrase",
            passphrase_file="passphrase",
            cost=founding.LOCAL_COST,
        )
        for name in FOUNDERS
    ]
    genesis = genesis_from_json(genesis_to_json(founding.found(network, cards, time_ms)))
    for name in FOUNDERS:
        init_stores(founding.join(folder / name, genesis, cards, {}))
    return genesis


def last_header_of(genesis: Genesis) -> Block:
    """What the institutions agree was the last one; the old chain's form is all that matters here."""
    first = genesis_block(genesis)
    return Block(msgspec.structs.replace(first.header, height=77, parent=first.hash), [])


def test_a_new_network_is_named_by_the_old_ones_last_header_and_believes_nothing_of_it(
    tmp_path: Path,
) -> None:
    old = found(tmp_path / "old", "west", OLD_MS)
    last = last_header_of(old)
    new = found(tmp_path / "new", last.hash.hex(), NEW_MS)
    for name in FOUNDERS:
        config = load_config(tmp_path / "new" / name / founding.CONFIG_FILE, {})
        assert read_genesis(config).network == last.hash.hex()
    assert new.chain_id != old.chain_id
    other = msgspec.structs.replace(new, network=Block(last.header, []).hash[::-1].hex())
    assert other.chain_id != new.chain_id, "whoever remembers another last header founds another network"

    patient = Wallet.create("patient", "patient")
    signed = sign_transaction(
        patient.signing,
        chain_id=old.chain_id,
        sender=patient.identity,
        nonce=bytes(16),
        valid_until=NEW_MS,
        operations=[Operation("identity.enrol", b"\x90")],
    )
    with pytest.raises(Refused, match=r"transaction\.wrong_chain"):
        verify_transaction(signed.raw, new.chain_id)

    # Even if an institution kept its node key, what it said on the old chain is no vote on the new one.
    key = files.load_node_key(tmp_path / "new" / "anna" / "node.key")
    vote = sign_prepare(key, old.chain_id, 1, 0, bytes(32))
    with pytest.raises(PeerFault):
        verify_message(vote, new.chain_id, new.validator_set)
    verify_message(sign_prepare(key, new.chain_id, 1, 0, bytes(32)), new.chain_id, new.validator_set)


def test_a_folder_of_the_old_network_does_not_join_the_new_one(tmp_path: Path) -> None:
    old = found(tmp_path / "old", "west", OLD_MS)
    new = found(tmp_path / "new", last_header_of(old).hash.hex(), NEW_MS)
    with pytest.raises(Refused, match=r"founding\.|genesis\.|store\."):
        founding.join(tmp_path / "old" / "anna", new, [], {})

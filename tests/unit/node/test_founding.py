"""From cards to a network: what everybody computes alike, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from consilium.contracts import identity
from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import genesis_from_json, genesis_to_json
from consilium.ledger.state import MemoryState
from consilium.node import files, founding
from consilium.node.config import load_config
from consilium.node.founding import FoundingCard, Place

TIME_MS = 1_800_000_000_000


def make(folder: Path, name: str, port: int = 7100, **more: object) -> FoundingCard:
    place = Place(f"{name}.example:{port}", ("127.0.0.1", port), **more)  # type: ignore[arg-type]
    return founding.make_folder(
        folder / name, name, place, "a passphrase", passphrase_file="passphrase", cost=founding.LOCAL_COST
    )


@pytest.fixture
def cards(tmp_path: Path) -> list[FoundingCard]:
    return [make(tmp_path, name) for name in ("anna", "bert", "carl")]


def test_the_genesis_does_not_depend_on_the_order_of_the_cards(cards: list[FoundingCard]) -> None:
    genesis = founding.found("three", cards, TIME_MS)
    assert founding.found("three", cards[::-1], TIME_MS).chain_id == genesis.chain_id
    assert founding.found("other", cards, TIME_MS).chain_id != genesis.chain_id
    assert genesis_from_json(genesis_to_json(genesis)) == genesis


def test_every_founder_is_an_institution_with_all_roles(cards: list[FoundingCard]) -> None:
    genesis = founding.found("three", cards, TIME_MS)
    outcome = execute_genesis(genesis, MemoryState(), default_registry())
    state = dict(outcome.changes)
    for card in cards:
        raw = state[identity.IDENTITIES.key(card.institution)]
        assert raw is not None
        entry = codec.decode(raw, identity.Identity, 2_048)
        assert (entry.kind, entry.keys, entry.roles) == (
            "institution",
            [bytes(card.key)],
            ["author", "custodian", "manager"],
        )
        assert entry.encryption_key == bytes(card.encryption_key)
    assert [v.key for v in genesis.validators] == sorted(bytes(card.node_key) for card in cards)


def test_a_card_names_what_the_folder_holds(tmp_path: Path) -> None:
    card = make(tmp_path, "anna")
    assert founding.read_card(tmp_path / "anna" / "card.json") == card
    assert files.load_node_key(tmp_path / "anna" / "node.key").public == card.node_key
    config = load_config(tmp_path / "anna" / founding.CONFIG_FILE, {})
    assert config.custodian.wallet_file == founding.WALLET_FILE
    assert card.peer.address == "anna.example:7100"


@pytest.mark.parametrize(
    "field", ["name", "address", "node_key", "key", "encryption_key", "author_point", "node_proof", "proof"]
)
def test_no_field_of_a_card_can_be_changed(tmp_path: Path, field: str) -> None:
    mine, theirs = make(tmp_path, "anna"), make(tmp_path, "bert")
    forged = msgspec.structs.replace(mine, **{field: getattr(theirs, field)})
    path = tmp_path / "forged.json"
    path.write_bytes(founding.card_to_json(forged))
    with pytest.raises(Refused) as refused:
        founding.read_card(path)
    assert refused.value.code == "founding.bad_card"


def test_cards_that_collide_found_nothing(tmp_path: Path, cards: list[FoundingCard]) -> None:
    same_address = msgspec.structs.replace(cards[1], address=cards[0].address)
    for colliding in ([], [cards[0], cards[0]], [cards[0], same_address], [cards[0]] * 61):
        with pytest.raises(Refused) as refused:
            founding.found("x", colliding, TIME_MS)
        assert refused.value.code == "founding.bad_cards"


def test_a_name_that_is_too_long_is_refused(cards: list[FoundingCard]) -> None:
    with pytest.raises(Refused):
        founding.found("x" * 65, cards, TIME_MS)


def test_joining_writes_the_other_nodes_and_not_oneself(tmp_path: Path, cards: list[FoundingCard]) -> None:
    genesis = founding.found("three", cards, TIME_MS)
    config = founding.join(tmp_path / "anna", genesis, cards, {})
    assert [peer.name for peer in config.p2p.peers] == ["bert", "carl"]
    assert founding.read_genesis(config.genesis_path) == genesis
    founding.join(tmp_path / "anna", genesis, cards, {})


def test_a_folder_belongs_to_one_network(tmp_path: Path, cards: list[FoundingCard]) -> None:
    founding.join(tmp_path / "anna", founding.found("three", cards, TIME_MS), cards, {})
    with pytest.raises(Refused) as refused:
        founding.join(tmp_path / "anna", founding.found("other", cards, TIME_MS), cards, {})
    assert refused.value.code == "founding.already_joined"


def test_only_founders_vote_and_observers_may_follow(tmp_path: Path, cards: list[FoundingCard]) -> None:
    genesis = founding.found("two", cards[:2], TIME_MS)
    with pytest.raises(Refused) as refused:
        founding.join(tmp_path / "carl", genesis, cards, {})
    assert refused.value.code == "founding.not_a_founder"
    make(tmp_path, "dora", role="observer")
    config = founding.join(tmp_path / "dora", genesis, cards[:2], {})
    assert len(config.p2p.peers) == 2


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    make(tmp_path, "anna")
    before = (tmp_path / "anna" / "node.key").read_bytes()
    with pytest.raises(Refused) as refused:
        make(tmp_path, "anna")
    assert refused.value.code == "founding.folder_taken"
    assert (tmp_path / "anna" / "node.key").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refused):
        founding.make_empty(tmp_path / "file" / "below")

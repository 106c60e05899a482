"""What founders agree on: roles and settings, in the genesis and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.contracts.settings import DEFAULTS
from consilium.ledger.errors import Refused
from consilium.node import founding, terms
from consilium.node.founding import FoundingCard, Place

TIME_MS = 1_700_000_000_000


@pytest.fixture
def cards(tmp_path: Path) -> list[FoundingCard]:
    return [
        founding.make_folder(
            tmp_path / name,
            name,
            Place(f"127.0.0.1:{7100 + number}", ("127.0.0.1", 0)),
            "a long passphrase",
            cost=founding.LOCAL_COST,
        )
        for number, name in enumerate(("anna", "bert", "carl"))
    ]


def test_a_network_of_people_chooses_its_issuers(cards: list[FoundingCard]) -> None:
    anna, bert, carl = (card.institution for card in cards)
    agreed = terms.Terms(issuers=(bert,), authorities=(bert, carl))
    genesis = founding.found("three", cards, TIME_MS, agreed)
    assert terms.roles_in(genesis) == {
        anna: ["author", "custodian", "manager"],
        bert: ["author", "authority", "custodian", "issuer", "manager"],
        carl: ["author", "authority", "custodian", "manager"],
    }
    assert terms.settings_in(genesis) == DEFAULTS
    assert founding.found("three", cards, TIME_MS).chain_id != genesis.chain_id


def test_who_is_no_founder_has_no_role(cards: list[FoundingCard]) -> None:
    for wrong in (terms.Terms(issuers=(bytes(16),)), terms.Terms(authorities=(cards[2].institution,))):
        with pytest.raises(Refused, match=r"founding\.bad_terms"):
            founding.found("two", cards[:2], TIME_MS, wrong)


def test_a_local_cluster_can_try_everything(cards: list[FoundingCard]) -> None:
    institutions = [card.institution for card in cards]
    agreed = terms.local_terms(institutions, {"review_ms": 1_000})
    settled = terms.settings_in(founding.found("three", cards, TIME_MS, agreed))
    assert (settled.emergency_summaries, settled.review_ms) == (True, 1_000)
    roles = terms.roles_in(founding.found("three", cards, TIME_MS, agreed))
    assert [("issuer" in roles[one], "authority" in roles[one]) for one in institutions] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    alone = terms.local_terms(institutions[:1])
    assert terms.settings_in(founding.found("one", cards[:1], TIME_MS, alone)).sensitive_threshold_min == 1


def test_settings_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('second_person = false\npolicy_purposes = ["ETREAT"]\n')
    settled = terms.settings_from(terms.changes_from(file))
    assert (settled.second_person, settled.policy_purposes) == (False, ["ETREAT"])
    assert settled.review_ms == DEFAULTS.review_ms
    for text in ("review_ms = 0", "review = 5", "review_ms = [", 'second_person = "no"'):
        file.write_text(text)
        with pytest.raises(Refused, match=r"founding\.bad_terms"):
            terms.settings_from(terms.changes_from(file))
    with pytest.raises(Refused, match=r"settings\.bad_policy"):
        terms.settings_from({"policy_purposes": ["HRESCH"]})

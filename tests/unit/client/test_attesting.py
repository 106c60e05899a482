"""Second signatures: on one computer or two, the same bytes; what was changed on the way is not submitted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consilium.client import attesting, emergency
from consilium.client.attesting import FIELDS
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.attestation import Attestation, attestation_digest
from consilium.contracts.registry import default_registry
from consilium.ledger.crypto import verify
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import GENESIS_VERSION, Genesis
from consilium.ledger.validators import Validator

GENESIS = Genesis(
    GENESIS_VERSION, "test", 1, [Validator(Wallet.create("node").signing.public, bytes(16))], []
)
NOBODY: Any = None
SENDER, OTHER = Wallet.create("sender"), Wallet.create("other")
BODY = emergency.declaration(bytes(16), "danger-to-life", bytes(16), 1_000, bytes(16))


class Told(Session):
    """A session that keeps what it would submit."""

    def __init__(self, wallet: Wallet, sender: bytes | None = None) -> None:
        super().__init__(NOBODY, GENESIS, wallet, sender=sender)
        self.acts: list[tuple[str, Any]] = []

    async def act(self, name: str, body: Any, *, certified: bool = False) -> Any:
        self.acts.append((name, body))


def test_every_operation_that_takes_two_is_named() -> None:
    found = {
        name: [field.name for field in msgspec.structs.fields(spec.body) if "Attestation" in str(field.type)]
        for name, spec in default_registry().operations.items()
    }
    assert {name: fields[0] for name, fields in found.items() if fields} == FIELDS


async def test_here_and_on_another_computer_the_same_is_submitted() -> None:
    session = Told(SENDER)
    at_once = attesting.attested(session, "emergency.declare", BODY, OTHER)
    raw = attesting.draft_to_json(attesting.drafted(session, "emergency.declare", BODY))
    signed = attesting.sign_draft(attesting.draft_from_json(raw), OTHER)
    back = attesting.draft_from_json(attesting.draft_to_json(signed))
    await attesting.submit_draft(session, back)
    assert session.acts == [("emergency.declare", at_once)]
    second = at_once.second
    assert isinstance(second, Attestation)
    digest = attestation_digest(
        chain_id=session.chain_id, sender=SENDER.identity, operation="emergency.declare", body=BODY
    )
    assert (second.identity, second.key) == (OTHER.identity, OTHER.signing.public)
    assert verify(second.key, digest, second.signature)


async def test_a_draft_is_for_its_sender_and_network_and_takes_its_signature() -> None:
    session = Told(SENDER)
    draft = attesting.drafted(session, "emergency.declare", BODY)
    with pytest.raises(Refused, match=r"attestation\.missing"):
        await attesting.submit_draft(session, draft)
    signed = attesting.sign_draft(draft, OTHER, who=bytes([7]) * 16)
    assert signed.attestation is not None
    assert bytes(signed.attestation.identity) == bytes([7]) * 16
    for other in (Told(OTHER), Told(SENDER, sender=OTHER.identity)):
        with pytest.raises(Refused, match=r"attestation\.wrong_draft"):
            await attesting.submit_draft(other, signed)
    assert any("danger-to-life" in line for line in attesting.describe_draft(draft))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "consilium-draft/2"},
        {"operation": "consent.revoke"},
        {"operation": "mandate.issue"},
        {"body": "AAAA"},
        {"chain_id": "00"},
        {"more": 1},
    ],
)
def test_what_is_no_draft_is_refused(change: dict[str, Any]) -> None:
    raw = attesting.draft_to_json(attesting.drafted(Told(SENDER), "emergency.declare", BODY))
    value = {**msgspec.json.decode(raw), **change}
    with pytest.raises(Refused):
        attesting.draft_from_json(msgspec.json.encode(value))
    with pytest.raises(Refused, match=r"attestation\.wrong_draft"):
        attesting.draft_from_json(b"{")

"""`identity.resolve` over a node whose state is a dict."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from consilium.client.did import did_of_encryption_key, did_of_signing_key
from consilium.client.did_document import did_of_identity
from consilium.contracts.identity import IDENTITIES, KEYS, Identity, KeyEntry
from consilium.contracts.sessions import SESSIONS, Sessions
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.node.dispatch import Caller, Dispatcher
from consilium.node.metrics import Metrics
from consilium.node.rpc_methods import METHODS
from tests.unit.node.fake_node import GENESIS, FakeNode

WHO = bytes(range(16))
LASTING, SHIFT, ENDED, GONE = (SigningKey(bytes([number]) * 32).public for number in (1, 2, 3, 4))
DOCTOR = Identity("practitioner", "active", bytes(16), [LASTING], b"\x09" * 32, None, [], 1_700_000_000_000)


class Node(FakeNode):
    """Certified state is `kept`; its height grows after each of the first `moving` reads."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[bytes, bytes] = {}
        self.height, self.moving = 20, 0

    def put(self, key: bytes, value: codec.Wire) -> None:
        self.kept[key] = codec.encode(value)

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        answer = self.kept.get(key), self.height
        if self.moving:
            self.moving, self.height = self.moving - 1, self.height + 1
        return answer


@pytest.fixture
def node() -> Node:
    node = Node()
    node.put(IDENTITIES.key(WHO), DOCTOR)
    node.put(KEYS.key(LASTING), KeyEntry(WHO, 1, None))
    node.put(KEYS.key(SHIFT), KeyEntry(WHO, 1, None, 1_700_043_200_000))
    node.put(KEYS.key(ENDED), KeyEntry(WHO, 1, 2, 1_700_043_200_000))
    node.put(KEYS.key(GONE), KeyEntry(WHO, 1, 2))
    node.put(SESSIONS.key(WHO), Sessions([SHIFT, ENDED]))
    return node


async def resolve(node: Node, did: str) -> Any:
    dispatcher = Dispatcher(
        node,
        METHODS,
        metrics=Metrics(),
        in_flight_max=10,
        batch_requests_max=10,
        on_broken=lambda error: None,
    )
    body = {"jsonrpc": "2.0", "method": "identity.resolve", "params": {"did": did}, "id": 1}
    answer = await dispatcher.answer(json.dumps(body).encode(), Caller(privileged=False))
    assert answer is not None
    return json.loads(answer)


async def test_an_identity_is_resolved_by_its_did_and_by_its_key(node: Node) -> None:
    did = did_of_identity(GENESIS.chain_id, WHO)
    found = (await resolve(node, did))["result"]
    assert found["didDocument"]["id"] == did
    assert found["didDocumentMetadata"]["versionId"] == "20"
    named = [method["id"].split("#")[1] for method in found["didDocument"]["verificationMethod"]]
    expected = [did_of_signing_key(LASTING), did_of_signing_key(SHIFT)]
    assert ["did:key:" + name for name in named] == [*expected, did_of_encryption_key(DOCTOR.encryption_key)]
    by_key = (await resolve(node, did_of_signing_key(LASTING)))["result"]
    assert by_key["didDocument"] == found["didDocument"]
    assert by_key["didDocumentMetadata"]["canonicalId"] == did


@pytest.mark.parametrize(
    ("did", "code"),
    [
        (did_of_identity(GENESIS.chain_id, bytes(16)), "identity.unknown"),
        (did_of_signing_key(GONE), "identity.unknown"),
        (did_of_signing_key(SigningKey(bytes([9]) * 32).public), "identity.unknown"),
        (did_of_encryption_key(bytes([9]) * 32), "identity.unknown"),
        (did_of_identity(bytes(32), WHO), "did.other_network"),
        ("did:example:123", "did.malformed"),
    ],
)
async def test_what_is_not_here_is_refused(node: Node, did: str, code: str) -> None:
    assert (await resolve(node, did))["error"]["data"]["code"] == code


async def test_a_document_is_of_one_height(node: Node) -> None:
    node.moving = 2
    found = (await resolve(node, did_of_identity(GENESIS.chain_id, WHO)))["result"]
    assert found["didDocumentMetadata"]["versionId"] == "22"


async def test_a_suspended_identity_is_deactivated(node: Node) -> None:
    node.put(IDENTITIES.key(WHO), msgspec.structs.replace(DOCTOR, status="suspended"))
    found = (await resolve(node, did_of_identity(GENESIS.chain_id, WHO)))["result"]
    assert found["didDocumentMetadata"]["deactivated"] is True

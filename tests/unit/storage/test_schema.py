"""No two kinds of rows can be taken for each other, and keys sort as what they hold."""

from __future__ import annotations

from consilium.ledger.merkle import NodePosition
from consilium.storage import schema


def test_every_kind_has_a_prefix_of_its_own() -> None:
    kinds = {
        name: value for name, value in vars(schema).items() if name.isupper() and isinstance(value, bytes)
    }
    assert len(kinds) >= 20
    assert all(len(value) == 1 for value in kinds.values())
    assert len(set(kinds.values())) == len(kinds)


def test_keys_sort_as_numbers_do() -> None:
    heights = [0, 1, 255, 256, 2**32, 2**63 - 1]
    for key_of in (
        lambda height: schema.at_height(schema.BLOCK, height),
        lambda height: schema.batch_key(height, 7),
        lambda height: schema.event_key(height, 7),
        lambda height: schema.subject_key(bytes(16), height),
        lambda height: schema.history_key(NodePosition(3, height)),
    ):
        keys = [key_of(height) for height in heights]
        assert keys == sorted(set(keys))
    for height in heights:
        for key in (
            schema.at_height(schema.BLOCK, height),
            schema.batch_key(height, 9),
            schema.event_key(height, 9),
        ):
            assert schema.height_in(key) == height

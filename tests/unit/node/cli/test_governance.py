"""What a proposal is called: people vote on it, so it must say what would change."""

from __future__ import annotations

import msgspec

from consilium.contracts import ballot
from consilium.contracts.settings import DEFAULTS
from consilium.node.cli.governance import _words


def test_of_settings_those_are_named_that_would_change() -> None:
    wanted = msgspec.structs.replace(DEFAULTS, review_ms=60_000, policy_purposes=[])
    change = ballot.ChangeSettings(wanted)
    assert _words(change, DEFAULTS) == "settings: policy_purposes = [], review_ms = 60000"
    assert _words(change, wanted) == "settings: as they are"


def test_without_present_ones_every_setting_is_named() -> None:
    words = _words(ballot.ChangeSettings(DEFAULTS))
    assert all(f"{name} = " in words for name in DEFAULTS.__struct_fields__)

"""The table of weights: what each operation costs, in the unit of `ledger.weight`, and what handlers charge beside it.

Measured with everything that a node does for an operation: reading, deciding, writing (some 15 for an entry, state tree
and store included), checking signatures (45 each) and points of the group (32). `fixed` and `each` (16 bytes of the
body) bound what follows from the body; what state decides is charged by the handler, one unit of what it is about to do
at a time. Changing a number changes what a block may hold: it is part of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from consilium.ledger.weight import Weight

ORDINARY: Final = Weight(fixed=200, each=10)
"""Enough for two signatures to check, and a dozen entries read and written, long ones among them."""
UNKNOWN: Final = Weight(fixed=10, each=0)
"""Of an operation that no contract knows: it is refused by its name."""

WEIGHTS: Final[Mapping[str, Weight]] = {
    "access.request": Weight(fixed=100, each=40),
    # Each release names a decision, which may be as long as a result.
    "disclosure.attest": Weight(fixed=50, each=40),
    "erasure.request": Weight(fixed=200, each=40),
    # Everybody's votes are counted, and what they decide is done.
    "governance.propose": Weight(fixed=1_000, each=10),
    "governance.vote": Weight(fixed=1_000, each=10),
    "records.anchor": Weight(fixed=60, each=1),
    "records.begin_epoch": Weight(fixed=200, each=30),
    "records.open_compartments": Weight(fixed=200, each=30),
    "takeover.complete": Weight(fixed=600, each=30),
}
"""By operation, where ORDINARY does not fit."""

CONSENT: Final = 12
"""Weighing one consent for one compartment."""
FACT: Final = 10
"""Gathering one fact about a reader and a patient."""
FURTHER_CLASS: Final = 100
"""Noting who keeps a record in one of its further compartments."""
ERASED_EPOCH: Final = 40
"""Looking at who keeps something of an epoch, which may be as many as KEEPERS_MAX."""
ERASED_RECORD: Final = 60
"""Erasing one record, which any hold may keep."""

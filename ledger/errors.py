"""The tree of expected failures, and the one catalogue of codes behind it.

Three readers need three answers. `Refused` answers the client: a stable code, a sentence. `PeerFault` scores a
peer: it is never shown to a client. `InvariantBroken` means that this node contradicts itself or the network, and
must halt rather than continue. Everything else that is raised is a bug.

`CATALOGUE` in `ledger.catalogue` holds cause and remedy of every code; RPC, CLI and `docs/errors.md` share it.
"""

from __future__ import annotations

import re
from typing import Final

from consilium.ledger.catalogue import CATALOGUE, CatalogueEntry

DETAIL_CHARS_MAX: Final = 2_000
_ID: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?", re.ASCII)


class ConsiliumError(Exception):
    """Root of what Consilium raises on purpose."""


class Refused(ConsiliumError):
    """A request, transaction, operation or input that is refused, with a code from the catalogue.

    The code is agreed on (it is part of receipts); the detail is for people, and never is.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.entry: CatalogueEntry = CATALOGUE[code]
        self.code: str = code
        self.detail: str = detail[:DETAIL_CHARS_MAX]
        super().__init__(code, self.detail)

    @property
    def words(self) -> str:
        """What to tell a person: the detail; where that is an id alone or nothing, the cause with it."""
        if _ID.fullmatch(self.detail):
            return f"{self.detail}: {self.entry.cause}"
        return self.detail or self.entry.cause

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.entry.cause}"


class PeerFault(ConsiliumError):
    """A peer sent what no honest peer sends. `weight` is how much its score suffers."""

    def __init__(self, reason: str, weight: int = 10) -> None:
        self.reason: str = reason
        self.weight: int = weight
        super().__init__(reason, weight)


class InvariantBroken(ConsiliumError):
    """This node contradicts itself or a certified header: it halts, and says what it saw."""


def sole_error(error: BaseException) -> BaseException:
    """What a task group wrapped, where that is one error: whoever reports it wants the error, not the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

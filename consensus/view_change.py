"""What a new primary must propose, and how it proves it.

The new primary picks a quorum of view changes for its view. If any of them had prepared a block, the one prepared in
the highest view must be proposed again, unchanged; else the primary is free. Any quorum is safe: it shares an honest
validator with the quorum that decided, if one did, and that validator's claim is at least as high as the decision
(docs/consensus.md, "View change").

Source: Castro & Liskov 1999, §4.4; for the form of the proof, QBFT (arXiv 2002.03613).
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.consensus.limits import VIEW_TIMEOUT_GROWTH, ReplicaConfig
from consilium.consensus.messages import Claim, Justification, ViewChange, prepared_at
from consilium.ledger.block import Block


@dataclass(frozen=True, slots=True)
class Mandate:
    """The right to propose in a view above 0. `block` is what must be proposed again; None leaves the choice."""

    justification: Justification
    block: Block | None


def mandate(changes: list[tuple[int, ViewChange]], quorum: int) -> Mandate | None:
    """From the verified view changes for one view, each with its validator's index; None without a quorum.

    The highest prepared ones are preferred: to propose a prepared block again wastes nothing.
    """
    if len(changes) < quorum:
        return None
    ranked = sorted(changes, key=_rank)[:quorum]
    claims = [
        Claim(index, prepared_at(change.prepared), change.signature)
        for index, change in sorted(ranked, key=lambda entry: entry[0])
    ]
    highest = ranked[0][1].prepared
    if highest is None:
        return Mandate(Justification(claims, None), None)
    return Mandate(Justification(claims, highest.certificate), highest.block)


def _rank(entry: tuple[int, ViewChange]) -> tuple[int, int]:
    index, change = entry
    return (-1 - change.prepared.certificate.view if change.prepared is not None else 0, index)


def view_timeout_ms(config: ReplicaConfig, failures: int) -> int:
    """How long a view may take after so many that failed: growing, capped (docs/consensus.md, "Timers")."""
    timeout, (times, parts) = config.view_timeout_ms, VIEW_TIMEOUT_GROWTH
    for _ in range(failures):
        timeout = timeout * times // parts
        if timeout >= config.view_timeout_max_ms:
            return config.view_timeout_max_ms
    return timeout

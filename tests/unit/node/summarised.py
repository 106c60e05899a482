"""South's summary desk on the contracts' small world: a real emergency key of Dora and Sam, a summary of Petra's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consilium.client import sealing, sharing
from consilium.client.envelope import Context, HeaderFields
from consilium.client.sealing import AuthorKeys, SealedRecord
from consilium.client.sharing import CompartmentSecret
from consilium.contracts import summaries
from consilium.ledger.crypto import SigningKey
from consilium.node.emergency_api import Signer
from consilium.node.summaries import SummaryDesk
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, PETRA, SOUTH, Actor, World, some

TEXT = b'{"resourceType":"Bundle"}'
SAM = summarising.SAM
KEY = some("real key")


@dataclass(frozen=True)
class Keys:
    """As much of a wallet as a desk needs."""

    signing: SigningKey
    identity: bytes


@dataclass(frozen=True)
class Tip:
    """As much of a tip."""

    height: int
    time_ms: int


@dataclass
class Ward:
    """The world, and South's desk on it; its clock is a minute and more ahead of the newest block unless told."""

    folder: Path
    world: World = field(default_factory=lambda: summarising.switch_on(World().populate()))
    secret: CompartmentSecret = field(default_factory=lambda: sharing.make_compartment(2, 2))
    silence_ms: int = 60_000

    def __post_init__(self) -> None:
        world = self.world
        care.with_licence(world)
        world.ok(SOUTH, summaries.SetSummaryKey(KEY, list(self.secret.commitments), [DORA.id, SAM.id]))
        self.sealed = self.seal()
        self.place(self.sealed)
        self.desk = self.opened()

    def seal(self, text: bytes = TEXT) -> SealedRecord:
        context = Context(self.world.chain_id, summarising.SUMMARY, KEY, 0, PETRA.id)
        author = AuthorKeys(PETRA.key, w.some_point("petra's own"))
        header = HeaderFields("Bundle", "", "application/fhir+json")
        return sealing.seal(text, context, self.secret.point, author, (), header)

    def place(self, sealed: SealedRecord) -> None:
        body = summaries.PlaceSummary(summarising.SUMMARY, PETRA.id, KEY, sealed.anchor, sealed.digest)
        self.world.ok(PETRA, body)

    def opened(self) -> SummaryDesk:
        """The desk, as after a start."""
        wallet: Any = Keys(SOUTH.key, SOUTH.id)
        tip: Any = lambda: Tip(self.world.height, self.world.time_ms)  # noqa: E731
        return SummaryDesk(
            folder=self.folder,
            wallet=wallet,
            chain_id=self.world.chain_id,
            tip=tip,
            state=lambda: self.world.state,
            clock_ms=lambda: self.now_ms,
        )

    @property
    def now_ms(self) -> int:
        return self.world.time_ms + self.silence_ms

    def signers(self, *who: Actor, key: Actor | None = None) -> Sequence[Signer]:
        """Signatures of the request by Dora and Sam, or by these."""
        people = who or (DORA, SAM)
        digest = summaries.request_digest(
            chain_id=self.world.chain_id,
            institution=SOUTH.id,
            summary=summarising.SUMMARY,
            reason="danger-to-life",
            opener=people[0].id,
            second=people[-1].id,
            opened_ms=self.now_ms,
        )
        licences = {DORA.id: "licence", SAM.id: "sam"}
        return [
            Signer(
                one.id,
                some(f"credential/{licences.get(one.id, 'none')}"),
                (key or one).key.public,
                (key or one).key.sign(digest),
            )
            for one in people
        ]

    def open(self, signers: Sequence[Signer] | None = None, *, in_reach: bool = False) -> Any:
        return self.desk.open(
            PETRA.id, "danger-to-life", self.now_ms, signers or self.signers(), in_reach=in_reach
        )

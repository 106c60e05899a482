"""The cast: one small class for each way to lie. Each runs the real replica, and bends what it sends or builds."""

from __future__ import annotations

from typing import Final

import msgspec

from consilium.consensus.context import make_block
from consilium.consensus.messages import (
    Claim,
    Commit,
    Decided,
    Justification,
    Message,
    Prepare,
    Prepared,
    PreparedAt,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
    claim_hash,
    decode_message,
    encode_message,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
    view_change_digest,
)
from consilium.ledger.block import Block, Header, Seal
from consilium.ledger.errors import Refused
from tests.simulation.chain import CHAIN_ID, digest_of
from tests.simulation.host import Host


class Attacker(Host):
    """A liar. `everyone` are the other hosts' indexes."""

    honest = False

    @property
    def everyone(self) -> list[int]:
        return [index for index in range(len(self.cluster.hosts)) if index != self.index]

    def whisper(self, target: int, message: Message) -> None:
        """Send to one host."""
        self.cluster.network.send(self.index, target, ("message", encode_message(message)))

    def shout(self, message: Message) -> None:
        for target in self.everyone:
            self.whisper(target, message)

    def start(self) -> None:
        super().start()
        self.later(self.world.rng.randint(50, 400), self.tick)

    def tick(self) -> None:
        self.mischief()
        self.later(self.world.rng.randint(100, 600), self.tick)

    def mischief(self) -> None:
        """What it does now and then, unasked."""

    def variant(self, block: Block, **changes: object) -> Block:
        """The block with other header fields."""
        return Block(msgspec.structs.replace(block.header, **changes), block.batches)


class EquivocatingPrimary(Attacker):
    """Proposes two blocks in one view, each to one half, and votes for both."""

    def broadcast(self, message: Message) -> None:
        fresh = isinstance(message, PrePrepare) and (
            message.justification is None or message.justification.certificate is None
        )
        if not fresh or not isinstance(message, PrePrepare):
            super().broadcast(message)
            return
        other = self.variant(message.block, time_ms=message.block.header.time_ms + 1)
        second = sign_pre_prepare(self.key, CHAIN_ID, message.view, other, message.justification)
        shuffled = self.everyone
        self.world.rng.shuffle(shuffled)
        half = self.world.rng.randint(1, len(shuffled))
        for target in shuffled[:half]:
            self.whisper(target, message)
        for target in shuffled[half:]:
            self.whisper(target, second)
        for target in shuffled:
            for block in (message.block, other):
                self.whisper(target, sign_commit(self.key, CHAIN_ID, block.height, message.view, block.hash))
                self.whisper(target, sign_prepare(self.key, CHAIN_ID, block.height, message.view, block.hash))


class DoubleVoter(Attacker):
    """Prepares and commits, at once, every block it hears of."""

    def reset_memory(self) -> None:
        super().reset_memory()
        self.voted: dict[tuple[int, int, bytes], None] = {}

    def receive(self, source: int, raw: bytes) -> None:
        super().receive(source, raw)
        try:
            message = decode_message(raw)
        except Refused:
            return
        if isinstance(message, PrePrepare | Prepare):
            height, view, block = message.height, message.view, message.block_hash
            if (height, view, block) in self.voted:
                return
            self.voted[height, view, block] = None
            for target in self.everyone:
                self.whisper(target, sign_prepare(self.key, CHAIN_ID, height, view, block))
                if self.world.rng.randrange(2):
                    self.whisper(target, sign_commit(self.key, CHAIN_ID, height, view, block))


class SilentPrimary(Attacker):
    """Votes, but never proposes."""

    def broadcast(self, message: Message) -> None:
        if not isinstance(message, PrePrepare):
            super().broadcast(message)


class SelectiveSender(Attacker):
    """Says each thing to some, never the same ones."""

    def broadcast(self, message: Message) -> None:
        for target in self.everyone:
            if self.world.rng.randrange(100) < 55:
                self.whisper(target, message)


class VoteWithholder(Attacker):
    """Proposes and prepares, but never commits to more than one host."""

    def broadcast(self, message: Message) -> None:
        if isinstance(message, Commit):
            self.whisper(self.world.rng.choice(self.everyone), message)
        else:
            super().broadcast(message)


class Replayer(Attacker):
    """Repeats what others said, later, to anybody."""

    def reset_memory(self) -> None:
        super().reset_memory()
        self.heard: list[bytes] = []

    def receive(self, source: int, raw: bytes) -> None:
        if len(self.heard) < 500:
            self.heard.append(raw)
        else:
            self.heard[self.world.rng.randrange(500)] = raw
        super().receive(source, raw)

    def mischief(self) -> None:
        for _ in range(min(10, len(self.heard))):
            raw = self.world.rng.choice(self.heard)
            self.cluster.network.send(self.index, self.world.rng.choice(self.everyone), ("message", raw))


class Forger(Attacker):
    """Makes up certificates, claims, senders and bytes."""

    def mischief(self) -> None:
        rng, context = self.world.rng, self.disk.chain.context()
        height, view = self.replica.height, self.replica.view + rng.randint(0, 3)
        validators = context.validators
        block = make_block(context, [], context.parent.time_ms + 5, context.primary(view))
        seals = [Seal(i, self.key.sign(block.hash)) for i in range(validators.quorum)]
        certificate = PreparedCertificate(max(0, view - 1), block.hash, seals)
        victim = rng.choice(validators.keys)
        noise = rng.randbytes(64)
        claims = [Claim(i, PreparedAt(view, block.hash), noise) for i in range(validators.quorum)]
        forged: list[Message] = [
            Prepare(height, view, victim, block.hash, noise),
            Commit(height, view, victim, block.hash, noise),
            Commit(height, view, rng.randbytes(32), block.hash, noise),
            sign_view_change(self.key, CHAIN_ID, height, view + 1, Prepared(certificate, block)),
            ViewChange(height, view + 1, victim, None, noise),
            PrePrepare(
                height,
                view + 1,
                self.key.public,
                block,
                Justification(claims, certificate),
                sign_prepare(self.key, CHAIN_ID, height, view + 1, block.hash).signature,
            ),
            self.claimed(height, view + 1, block),
        ]
        for message in forged:
            self.whisper(rng.choice(self.everyone), message)
        raw = bytearray(encode_message(rng.choice(forged)))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        self.cluster.network.send(self.index, rng.choice(self.everyone), ("message", bytes(raw)))

    def claimed(self, height: int, view: int, block: Block) -> PrePrepare:
        """A justification whose claims are all its own, and whose certificate repeats one signer."""
        validators = self.disk.chain.context().validators
        claim = PreparedAt(view - 1, block.hash)
        signature = self.key.sign(view_change_digest(CHAIN_ID, height, view, claim_hash(claim)))
        mine = validators.index(self.key.public) or 0
        prepare = sign_prepare(self.key, CHAIN_ID, height, view - 1, block.hash)
        certificate = PreparedCertificate(
            view - 1, block.hash, [Seal(mine, prepare.signature)] * validators.quorum
        )
        claims = [Claim(mine, claim, signature)] * validators.quorum
        return sign_pre_prepare(self.key, CHAIN_ID, view, block, Justification(claims, certificate))


class TimeLiar(Attacker):
    """Proposes at times that no clock shows."""

    LIES_MS: Final = (-3_600_000, -60_000, 2_500, 60_000, 3_600_000)

    def build(self, height: int, view: int) -> None:
        self.clock_ms = self.world.rng.choice(self.LIES_MS)
        super().build(height, view)


class ViewChangeSpammer(Attacker):
    """Demands view changes all the time, near and very far."""

    def mischief(self) -> None:
        rng = self.world.rng
        for _ in range(4):
            view = rng.choice((self.replica.view + 1, self.replica.view + 2, rng.randrange(1, 2**62)))
            height = self.replica.height + rng.randint(0, 1)
            self.shout(sign_view_change(self.key, CHAIN_ID, height, view, None))


class InvalidProposer(Attacker):
    """Proposes blocks that are wrong in one field, and votes for them."""

    def broadcast(self, message: Message) -> None:
        if not isinstance(message, PrePrepare):
            super().broadcast(message)
            return
        name = self.world.rng.choice(
            [f for f in Header.__struct_fields__ if f not in ("time_ms", "chain_id", "height", "version")]
        )
        value = getattr(message.block.header, name)
        wrong = value + 1 if isinstance(value, int) else self.world.rng.randbytes(32)
        block = self.variant(message.block, **{name: wrong})
        self.shout(sign_pre_prepare(self.key, CHAIN_ID, message.view, block, message.justification))
        self.shout(sign_commit(self.key, CHAIN_ID, message.height, message.view, block.hash))


class Flooder(Attacker):
    """Sends votes for every view and height it can think of."""

    def mischief(self) -> None:
        rng = self.world.rng
        for _ in range(25):
            height = self.replica.height + rng.choice((0, 0, 1, 1, 2, 1_000, 2**62))
            view = rng.choice((rng.randrange(8), rng.randrange(2**63 - 1)))
            block = rng.randbytes(32)
            vote: Message = rng.choice(
                (
                    sign_prepare(self.key, CHAIN_ID, height, view, block),
                    sign_commit(self.key, CHAIN_ID, height, view, block),
                    sign_view_change(self.key, CHAIN_ID, height, view + 1, None),
                )
            )
            self.whisper(rng.choice(self.everyone), vote)


class LyingSyncPeer(Attacker):
    """Boasts of heights it has not, and answers with blocks that do not check."""

    def deliver(self, source: int, packet: object) -> None:
        match packet:
            case ("fetch", int(height)) if self.disk.chain.tip >= max(height, 1):
                entry = self.disk.chain.entries[max(height, 1)]
                if entry.block is not None:
                    forged = self.variant(entry.block, state_root=bytes(32))
                    lie = (forged, entry.certificate, entry.batches)
                    self.cluster.network.send(self.index, source, ("blocks", (lie,)))
            case _:
                super().deliver(source, packet)

    def mischief(self) -> None:
        for target in self.everyone:
            boast = self.replica.height + self.world.rng.randrange(1, 1_000)
            self.cluster.network.send(self.index, target, ("tip", boast))
        entry = self.disk.chain.entries[-1]
        if entry.block is not None and entry.certificate is not None:
            forged = self.variant(entry.block, time_ms=entry.header.time_ms + 1)
            self.shout(Decided(forged, entry.certificate))


class CensoringPrimary(Attacker):
    """Never proposes what honest hosts admitted; makes way for nothing."""

    def uncommitted(self) -> list[bytes]:
        return []

    def tell_work(self) -> None:
        self.work = False


class BatchWithholder(Attacker):
    """Proposes batches that nobody else has, and gives them to few."""

    def build(self, height: int, view: int) -> None:
        secret = b"secret %d %d" % (self.index, self.world.now)
        self.cluster.checkers.admitted[digest_of(secret)] = None
        self.pool[digest_of(secret)] = secret
        super().build(height, view)

    def deliver(self, source: int, packet: object) -> None:
        match packet:
            case ("want", _) if self.world.rng.randrange(3):
                return
            case _:
                super().deliver(source, packet)

    def announce(self) -> None:
        """Never."""


CAST: Final[tuple[type[Attacker], ...]] = (
    EquivocatingPrimary,
    DoubleVoter,
    SilentPrimary,
    SelectiveSender,
    VoteWithholder,
    Replayer,
    Forger,
    TimeLiar,
    ViewChangeSpammer,
    InvalidProposer,
    Flooder,
    LyingSyncPeer,
    CensoringPrimary,
    BatchWithholder,
)

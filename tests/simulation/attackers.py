"""The cast: one small class for each way to lie. Each runs the real replica, and bends what it sends or builds."""

from __future__ import annotations

from typing import Final

import msgspec

from consilium.consensus.context import make_block
from consilium.consensus.io import Now
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
from consilium.ledger import codec
from consilium.ledger.batch import seal_batch
from consilium.ledger.block import BLOCK_BATCHES_MAX, Block, Header, Seal
from consilium.ledger.errors import Refused
from consilium.ledger.weight import BLOCK_WEIGHT_MAX, TRANSACTION_WEIGHT_MAX
from consilium.node.mempool import Mempool, MempoolLimits
from consilium.node.peer_messages import Blocks, BlocksRequest, DecidedBlock, Kind, Tip
from consilium.p2p.frame import Lane
from tests.simulation.founding import contracts
from tests.simulation.host import Host, Packet


class Attacker(Host):
    """A liar. `everyone` are the other hosts' indexes."""

    honest = False

    @property
    def everyone(self) -> list[int]:
        return [index for index in range(len(self.cluster.hosts)) if index != self.index]

    @property
    def chain_id(self) -> bytes:
        return self.cluster.founding.chain_id

    def post(self, target: int, kind: int, body: bytes, lane: Lane = Lane.BULK) -> None:
        """Send to one host."""
        self.cluster.network.send(self.index, target, Packet(kind, body, lane))

    def whisper(self, target: int, message: Message) -> None:
        """Say something of consensus to one host."""
        self.post(target, Kind.CONSENSUS, encode_message(message), Lane.VOTES)

    def shout(self, message: Message) -> None:
        for target in self.everyone:
            self.whisper(target, message)

    def _boot(self) -> None:
        super()._boot()
        self.world.after(self.world.rng.randint(50, 400), self._again, self.life)

    def _again(self, life: int) -> None:
        if life == self.life and self.alive:
            if not self.paused:
                self.loop.enter(self.mischief)
            self.world.after(self.world.rng.randint(100, 600), self._again, life)

    def mischief(self) -> None:
        """What it does now and then, unasked."""

    def variant(self, block: Block, **changes: object) -> Block:
        """The block with other header fields."""
        return Block(msgspec.structs.replace(block.header, **changes), block.batches)


class EquivocatingPrimary(Attacker):
    """Proposes two blocks in one view, each to one half, and votes for both."""

    def speak(self, message: Message, body: bytes | None = None) -> None:
        fresh = isinstance(message, PrePrepare) and (
            message.justification is None or message.justification.certificate is None
        )
        if not fresh or not isinstance(message, PrePrepare):
            super().speak(message, body)
            return
        self.acts += 1
        other = self.variant(message.block, time_ms=message.block.header.time_ms + 1)
        second = sign_pre_prepare(self.key, self.chain_id, message.view, other, message.justification)
        shuffled = self.everyone
        self.world.rng.shuffle(shuffled)
        half = self.world.rng.randint(1, len(shuffled))
        for target in shuffled[:half]:
            self.whisper(target, message)
        for target in shuffled[half:]:
            self.whisper(target, second)
        for target in shuffled:
            for block in (message.block, other):
                self.whisper(
                    target, sign_commit(self.key, self.chain_id, block.height, message.view, block.hash)
                )
                self.whisper(
                    target, sign_prepare(self.key, self.chain_id, block.height, message.view, block.hash)
                )


class DoubleVoter(Attacker):
    """Prepares and commits, at once, every block it hears of."""

    def _boot(self) -> None:
        super()._boot()
        self.voted: dict[tuple[int, int, bytes], None] = {}

    async def receive(self, source: int, packet: Packet) -> None:
        await super().receive(source, packet)
        if packet.kind != Kind.CONSENSUS:
            return
        try:
            message = decode_message(packet.body)
        except Refused:
            return
        if isinstance(message, PrePrepare | Prepare):
            height, view, block = message.height, message.view, message.block_hash
            if (height, view, block) in self.voted:
                return
            self.voted[height, view, block] = None
            self.acts += 1
            for target in self.everyone:
                self.whisper(target, sign_prepare(self.key, self.chain_id, height, view, block))
                if self.world.rng.randrange(2):
                    self.whisper(target, sign_commit(self.key, self.chain_id, height, view, block))


class SilentPrimary(Attacker):
    """Votes, but never proposes."""

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if isinstance(message, PrePrepare):
            self.acts += 1
        else:
            super().speak(message, body)


class SelectiveSender(Attacker):
    """Says each thing to some, never the same ones."""

    def speak(self, message: Message, body: bytes | None = None) -> None:
        for target in self.everyone:
            if self.world.rng.randrange(100) < 55:
                self.whisper(target, message)
            else:
                self.acts += 1


class VoteWithholder(Attacker):
    """Proposes and prepares, but never commits to more than one host."""

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if isinstance(message, Commit):
            self.acts += 1
            self.whisper(self.world.rng.choice(self.everyone), message)
        else:
            super().speak(message, body)


class Replayer(Attacker):
    """Repeats what others said, later, to anybody."""

    def _boot(self) -> None:
        super()._boot()
        self.heard: list[Packet] = []

    async def receive(self, source: int, packet: Packet) -> None:
        if len(self.heard) < 500:
            self.heard.append(packet)
        else:
            self.heard[self.world.rng.randrange(500)] = packet
        await super().receive(source, packet)

    def mischief(self) -> None:
        for _ in range(min(10, len(self.heard))):
            self.acts += 1
            packet = self.world.rng.choice(self.heard)
            self.cluster.network.send(self.index, self.world.rng.choice(self.everyone), packet)


class Forger(Attacker):
    """Makes up certificates, claims, senders and bytes."""

    def mischief(self) -> None:
        rng, context = self.world.rng, self.executor.context
        self.acts += 1
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
            sign_view_change(self.key, self.chain_id, height, view + 1, Prepared(certificate, block)),
            ViewChange(height, view + 1, victim, None, noise),
            PrePrepare(
                height,
                view + 1,
                self.key.public,
                block,
                Justification(claims, certificate),
                sign_prepare(self.key, self.chain_id, height, view + 1, block.hash).signature,
            ),
            self.claimed(height, view + 1, block),
        ]
        for message in forged:
            self.whisper(rng.choice(self.everyone), message)
        raw = bytearray(encode_message(rng.choice(forged)))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        self.post(rng.choice(self.everyone), Kind.CONSENSUS, bytes(raw), Lane.VOTES)

    def claimed(self, height: int, view: int, block: Block) -> PrePrepare:
        """A justification whose claims are all its own, and whose certificate repeats one signer."""
        validators = self.executor.context.validators
        claim = PreparedAt(view - 1, block.hash)
        signature = self.key.sign(view_change_digest(self.chain_id, height, view, claim_hash(claim)))
        mine = validators.index(self.key.public) or 0
        prepare = sign_prepare(self.key, self.chain_id, height, view - 1, block.hash)
        certificate = PreparedCertificate(
            view - 1, block.hash, [Seal(mine, prepare.signature)] * validators.quorum
        )
        claims = [Claim(mine, claim, signature)] * validators.quorum
        return sign_pre_prepare(self.key, self.chain_id, view, block, Justification(claims, certificate))


class TimeLiar(Attacker):
    """Proposes at times that no clock shows."""

    LIES_MS: Final = (-3_600_000, -60_000, 2_500, 60_000, 3_600_000)

    def clock(self) -> Now:
        now = super().clock()
        if self.world.rng.randrange(3):
            return now
        return Now(now.monotonic_ms, now.wall_ms + self.world.rng.choice(self.LIES_MS))

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if isinstance(message, PrePrepare):
            self.acts += abs(message.block.header.time_ms - super().clock().wall_ms) > 2_000
        super().speak(message, body)


class ViewChangeSpammer(Attacker):
    """Demands view changes all the time, near and very far."""

    def mischief(self) -> None:
        rng = self.world.rng
        self.acts += 1
        for _ in range(4):
            view = rng.choice((self.replica.view + 1, self.replica.view + 2, rng.randrange(1, 2**62)))
            height = self.replica.height + rng.randint(0, 1)
            self.shout(sign_view_change(self.key, self.chain_id, height, view, None))


class InvalidProposer(Attacker):
    """Proposes blocks that are wrong in one field, and votes for them."""

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if not isinstance(message, PrePrepare):
            super().speak(message, body)
            return
        self.acts += 1
        name = self.world.rng.choice(
            [f for f in Header.__struct_fields__ if f not in ("time_ms", "chain_id", "height", "version")]
        )
        value = getattr(message.block.header, name)
        wrong = value + 1 if isinstance(value, int) else self.world.rng.randbytes(32)
        block = self.variant(message.block, **{name: wrong})
        self.shout(sign_pre_prepare(self.key, self.chain_id, message.view, block, message.justification))
        self.shout(sign_commit(self.key, self.chain_id, message.height, message.view, block.hash))


class Flooder(Attacker):
    """Sends votes for every view and height it can think of."""

    def mischief(self) -> None:
        rng = self.world.rng
        self.acts += 1
        for _ in range(25):
            height = self.replica.height + rng.choice((0, 0, 1, 1, 2, 1_000, 2**62))
            view = rng.choice((rng.randrange(8), rng.randrange(2**63 - 1)))
            block = rng.randbytes(32)
            vote: Message = rng.choice(
                (
                    sign_prepare(self.key, self.chain_id, height, view, block),
                    sign_commit(self.key, self.chain_id, height, view, block),
                    sign_view_change(self.key, self.chain_id, height, view + 1, None),
                )
            )
            self.whisper(rng.choice(self.everyone), vote)


class LyingSyncPeer(Attacker):
    """Boasts of heights it has not, and answers with blocks that do not check: of another state, or with nothing wrong
    but the seals, which are another block's."""

    def forged(self, decided: Decided) -> Decided:
        if self.world.rng.randrange(2):
            return Decided(self.variant(decided.block, state_root=bytes(32)), decided.certificate)
        block = self.variant(decided.block, time_ms=decided.block.header.time_ms + 1)
        return Decided(block, msgspec.structs.replace(decided.certificate, block_hash=block.hash))

    async def receive(self, source: int, packet: Packet) -> None:
        if packet.kind == Kind.BLOCKS_REQUEST:
            first = codec.decode(packet.body, BlocksRequest, 32).first
            if 1 <= first <= self.tip and (decided := self.executor.decided(first)) is not None:
                forged = self.forged(decided)
                batches = self.executor.store.batches(first)
                lie = Blocks([DecidedBlock(forged.block, forged.certificate, batches)])
                self.acts += 1
                self.post(source, Kind.BLOCKS, codec.encode(lie))
            return
        await super().receive(source, packet)

    def mischief(self) -> None:
        self.acts += 1
        for target in self.everyone:
            boast = self.replica.height + self.world.rng.randrange(1, 1_000)
            self.post(target, Kind.TIP, codec.encode(Tip(boast, bytes(32))), Lane.VOTES)
        decided = self.executor.decided(self.tip)
        if decided is not None:
            self.shout(self.forged(decided))


class _Blind(Mempool):
    """Offers nothing to a block, and finds nothing to do."""

    def choose(self, transactions_max: int = 0) -> list[bytes]:
        return []

    @property
    def has_work(self) -> bool:
        return False


class CensoringPrimary(Attacker):
    """Never proposes what honest hosts admitted; makes way for nothing."""

    def new_pool(self, first_sequence: int) -> Mempool:
        return _Blind(self.key, self.chain_id, MempoolLimits(), first_sequence, contracts().weight)

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if isinstance(message, PrePrepare):
            self.acts += self.mempool.batch_count > 0 and not message.block.batches
        elif isinstance(message, ViewChange) and self.mempool.batch_count:
            self.acts += 1
        super().speak(message, body)


class _Boundless(Mempool):
    """Offers everything at once, whatever it weighs."""

    def choose(self, transactions_max: int = 0) -> list[bytes]:
        return list(self._batches)[:BLOCK_BATCHES_MAX]


class HeavyProposer(Attacker):
    """Proposes blocks that would keep everybody busy for seconds; and batches that are too heavy to be any."""

    def new_pool(self, first_sequence: int) -> Mempool:
        return _Boundless(self.key, self.chain_id, MempoolLimits(), first_sequence, contracts().weight)

    def mischief(self) -> None:
        if self.mempool.batch_count >= BLOCK_BATCHES_MAX // 2:
            return
        heavy = [
            self.cluster.submit_heavy(self) for _ in range(BLOCK_WEIGHT_MAX // TRANSACTION_WEIGHT_MAX + 2)
        ]
        seal = seal_batch(self.key, self.chain_id, self.world.rng.randrange(2**50), heavy)
        for target in self.everyone:
            self.post(target, Kind.BATCH, seal.raw)

    def speak(self, message: Message, body: bytes | None = None) -> None:
        if isinstance(message, PrePrepare):
            held = [self.mempool.batch(digest) for digest in message.block.batches]
            weight = sum(self.mempool.weight(batch) for batch in held if batch is not None)
            self.acts += weight > BLOCK_WEIGHT_MAX
        super().speak(message, body)


class StaleSealer(Attacker):
    """Seals what has expired, what is not good for long yet, and what is good, into one batch."""

    def mischief(self) -> None:
        if self.world.rng.randrange(3):
            return
        self.acts += 1
        tip_ms, clients = self.executor.store.tip.time_ms, self.cluster.clients
        sealed = [clients.enrolment(self.index, tip_ms + by_ms) for by_ms in (-3_600_000, 3_600_000, 0)]
        batch = seal_batch(self.key, self.chain_id, self.world.rng.randrange(2**50), sealed)
        for target in self.everyone:
            self.post(target, Kind.BATCH, batch.raw)


class BatchWithholder(Attacker):
    """Proposes batches that nobody else has, and gives them to few."""

    def mischief(self) -> None:
        if self.mempool.batch_count < BLOCK_BATCHES_MAX and not self.world.rng.randrange(3):
            self.cluster.submit_secret(self)

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        if kind == Kind.BATCH:
            self.acts += 1
            return 0
        return super().broadcast(kind, body, lane)

    async def receive(self, source: int, packet: Packet) -> None:
        if packet.kind == Kind.BATCH_REQUEST and self.world.rng.randrange(3):
            self.acts += 1
            return
        await super().receive(source, packet)


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
    HeavyProposer,
    StaleSealer,
)

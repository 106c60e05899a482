"""Scenarios as text: a command after `>`, then what the replicas did. See README.md beside this file.

Agreement is checked at every decision (council.py); a scenario that ends with `> settle` also demands progress.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from consilium.consensus.io import BatchesHeld, Censored, PeerHeight, VoteFloor
from consilium.consensus.messages import (
    Message,
    Prepared,
    PreparedCertificate,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.promise import Promise, no_promise
from consilium.consensus.restart import Answer, judge, latest, said_in, said_in_seals
from consilium.ledger.block import Block, Seal
from tests.simulation.chain import CHAIN_ID, Chain, digest_of
from tests.simulation.council import Council, Wire
from tests.simulation.keys import HashKey

FOLDER = Path(__file__).parent
SCENARIOS = sorted(FOLDER.glob("*.txt"))
SETTLE_ROUNDS_MAX = 200


def numbers(text: str, council: Council) -> list[int]:
    """`0,2` or `all` or `all-3`."""
    if text.startswith("all"):
        without = [int(n) for n in text[4:].split(",") if n]
        return [seat.index for seat in council.seats if seat.index not in without]
    return [int(n) for n in text.split(",")]


class Player:
    """Plays the commands of one scenario."""

    def __init__(self) -> None:
        self.council = Council(4)
        self.lost: Callable[[Wire], bool] = lambda wire: False
        self.blocks: dict[str, Block] = {}
        self.copies: dict[int, tuple[Promise | None, Chain]] = {}

    def play(self, line: str) -> list[str]:
        """Run one command; return what was printed."""
        words = line.split()
        before = len(self.council.log)
        council = self.council
        printed = getattr(self, "do_" + words[0].replace("-", "_"))(*words[1:])
        if self.council is not council:
            return [*printed] if printed else []
        self.remember()
        return [*self.council.log[before:], *(printed or [])]

    def remember(self) -> None:
        for wire in self.council.wires:
            block = getattr(wire.message, "block", None)
            if isinstance(block, Block):
                self.blocks[self.council.name(block.hash)] = block

    def filter(self, words: tuple[str, ...]) -> Callable[[Wire], bool]:
        """`[Kind] [from 0,1] [to 2,3]`"""
        kind, source, target = None, None, None
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "from":
                source = numbers(rest.pop(0), self.council)
            elif word == "to":
                target = numbers(rest.pop(0), self.council)
            else:
                kind = word
        return lambda wire: (
            (kind is None or type(wire.message).__name__ == kind)
            and (source is None or wire.source in source)
            and (target is None or wire.target in target)
        )

    # Commands -----------------------------------------------------------------------------------------------------

    def do_validators(self, count: str, observers: str = "0") -> None:
        """validators N [OBSERVERS]: begin."""
        self.council = Council(int(count), int(observers))

    def do_start(self, who: str = "all") -> None:
        """start [WHO]"""
        self.council.start(*numbers(who, self.council))

    def do_work(self, batch: str, who: str = "all") -> None:
        """work NAME [WHO]: a batch arrives."""
        self.council.work(batch, *numbers(who, self.council))

    def do_deliver(self, *words: str) -> None:
        """deliver [KIND] [from WHO] [to WHO]: until nothing of it is left."""
        self.council.deliver(self.filter(words))

    def do_drop(self, *words: str) -> list[str]:
        """drop [KIND] [from WHO] [to WHO]"""
        return [f"({self.council.drop(self.filter(words))} lost)"]

    def do_wait(self, milliseconds: str) -> list[str]:
        """wait MS: timers fire, nothing is delivered. What is said again and again is printed once, with its number."""
        before = len(self.council.log)
        self.council.wait(int(milliseconds))
        counts = Counter(self.council.log[before:])
        del self.council.log[before:]
        return [line if count == 1 else f"{line} ({count} times)" for line, count in counts.items()]

    def do_show(self) -> list[str]:
        """show: where everybody stands."""
        return list(self.council.states())

    def do_crash(self, who: str) -> None:
        """crash WHO"""
        for index in numbers(who, self.council):
            self.council.crash(index)

    def do_restart(self, who: str, abstain_below: str = "0") -> None:
        """restart WHO [ABSTAIN_BELOW]"""
        for index in numbers(who, self.council):
            self.council.restart(index, int(abstain_below))

    def do_clock(self, who: str, off_ms: str) -> None:
        """clock WHO MS: the wall clock is so much off."""
        for index in numbers(who, self.council):
            self.council.seats[index].wall_ms = int(off_ms)

    def do_mute_builder(self, who: str) -> None:
        """mute-builder WHO: the host does not answer BuildProposal until `build`."""
        for index in numbers(who, self.council):
            self.council.seats[index].answers = False

    def do_build(self, who: str) -> None:
        """build WHO: answer BuildProposal now."""
        for index in numbers(who, self.council):
            self.council.build(index)

    def do_batch(self, name: str, who: str) -> None:
        """batch NAME WHO: the missing batch arrives."""
        for index in numbers(who, self.council):
            self.council.seats[index].pool[digest_of(name.encode())] = name.encode()
            self.council.hold(index)

    def do_forget(self, name: str, who: str) -> None:
        """forget NAME WHO: the batch is no longer in the pool."""
        for index in numbers(who, self.council):
            del self.council.seats[index].pool[digest_of(name.encode())]

    def do_held(self, block: str, who: str) -> None:
        """held BLOCK WHO: BatchesHeld, true or not."""
        for index in numbers(who, self.council):
            self.council.step(index, BatchesHeld(self.blocks[block].hash))

    def do_censored(self, batch: str, who: str) -> None:
        """censored NAME WHO: the host finds that the batch waited too long."""
        for index in numbers(who, self.council):
            self.council.step(index, Censored(digest_of(batch.encode())))

    def do_height_of(self, peer: str, height: str, who: str) -> None:
        """height-of PEER HEIGHT WHO: a status exchange tells them where the peer works."""
        for index in numbers(who, self.council):
            key = self.council.seats[int(peer)].key.public
            self.council.step(index, PeerHeight(key, int(height)))

    def do_wipe(self, who: str) -> None:
        """wipe WHO: the disk is gone, promise and chain; `restart` begins with an empty one."""
        for index in numbers(who, self.council):
            seat = self.council.seats[index]
            self.council.crash(index)
            seat.promise, seat.chain = None, seat.chain.rewound(0)

    def do_copy(self, who: str) -> None:
        """copy WHO: an image of the disk is taken."""
        for index in numbers(who, self.council):
            seat = self.council.seats[index]
            self.copies[index] = (seat.promise, seat.chain.rewound(seat.chain.tip))

    def do_restore(self, who: str) -> None:
        """restore WHO: the disk is as the copy has it; `restart` starts on it."""
        for index in numbers(who, self.council):
            self.council.crash(index)
            self.council.seats[index].promise, self.council.seats[index].chain = self.copies[index]

    def do_ask(self, who: str, _of: str = "of", others: str = "all") -> list[str]:
        """ask WHO [of WHO]: who has just started hears what others show of it, and may speak accordingly."""
        printed = []
        for index in numbers(who, self.council):
            seat = self.council.seats[index]
            answers = {seat.key.public: Answer(seat.chain.tip)}
            for other in numbers(others, self.council):
                if other != index and self.council.seats[other].alive:
                    answers[self.council.seats[other].key.public] = self.answer_of(other, index)
            sets = seat.chain.sets[-2:]
            verdict = judge(seat.promise, answers, sets)
            if verdict is None:
                counted = sum(answer.remembers for answer in answers.values())
                printed.append(f"{index}: waits: {counted} remember, itself counted, of {sets[0].quorum}")
                continue
            printed.append(f"{index}: memory {verdict.memory.value}, speaks from height {verdict.floor} on")
            if seat.promise is None:
                seat.promise = no_promise(verdict.floor)
            self.council.step(index, VoteFloor(verdict.floor))
        return printed

    def answer_of(self, other: int, asker: int) -> Answer:
        """What a seat shows the asker: its tip, and the asker's votes that it heard or has in certificates."""
        seat, key = self.council.seats[other], self.council.seats[asker].key.public
        said = [said_in(message) for message in seat.replica.heard_from(key)]
        for height in range(1, seat.chain.tip + 1):
            certificate = seat.chain.entries[height].certificate
            if certificate is not None:
                said += said_in_seals(certificate, seat.chain.sets[height].index(key))
        remembers = seat.promise is not None and seat.chain.tip + 1 >= seat.promise.height
        return Answer(seat.chain.tip, tuple(latest(said)), remembers)

    def do_grow(self, height: str) -> list[str]:
        """grow HEIGHT: batches arrive and are decided until the chain is so high; says when the primary is another."""
        printed: list[str] = []
        seats, log, name = self.council.seats, len(self.council.log), 0
        while (here := max(seat.replica.height for seat in seats if seat.alive)) < int(height):
            before = self.primary_of(here)
            name += 1
            self.do_work(f"grown-{here}-{name}")
            self.do_settle()
            there = max(seat.replica.height for seat in seats if seat.alive)
            after = self.primary_of(there)
            if after != before:
                printed.append(f"(primary of height {here}: {before}, of height {there}: {after})")
        del self.council.log[log:]
        return printed

    def primary_of(self, height: int) -> int:
        """Who is primary, as the live replicas at this height see it."""
        keys = [
            seat.replica.primary
            for seat in self.council.seats
            if seat.alive and seat.replica.height == height
        ]
        return self.council.seat_of(keys[0])

    def do_forge(self, liar: str, kind: str, place: str, block: str, to: str, who: str) -> None:
        """forge LIAR KIND H/V BLOCK to WHO: the liar's own key signs what its replica never would.

        KIND is PrePrepare, Prepare, Commit, ViewChange, or Claim: a view change that claims, with the liar's own
        signature for a certificate, to have prepared BLOCK in the view before. BLOCK' is BLOCK with another time,
        BLOCK! on another state.
        """
        assert to == "to"
        height, view = (int(n) for n in place.split("/"))
        key = self.council.seats[int(liar)].key
        named = self.block(block)
        make: dict[str, Callable[[], Message]] = {
            "PrePrepare": lambda: sign_pre_prepare(key, CHAIN_ID, view, named, None),
            "Prepare": lambda: sign_prepare(key, CHAIN_ID, height, view, named.hash),
            "Commit": lambda: sign_commit(key, CHAIN_ID, height, view, named.hash),
            "ViewChange": lambda: sign_view_change(key, CHAIN_ID, height, view, None),
            "Claim": lambda: sign_view_change(key, CHAIN_ID, height, view, unproved(key, view - 1, named)),
        }
        for index in numbers(who, self.council):
            self.council.hand(int(liar), index, make[kind]())

    def block(self, name: str) -> Block:
        """A named block; with a prime, the same a millisecond later; with a double prime, an hour later."""
        plain = self.blocks[name.rstrip("'!")]
        later = {0: 0, 1: 1, 2: 3_600_000}[name.count("'")]
        header = msgspec.structs.replace(plain.header, time_ms=plain.header.time_ms + later)
        if name.endswith("!"):
            header = msgspec.structs.replace(header, state_root=bytes(32))
        twin = Block(header, plain.batches)
        self.blocks[self.council.name(twin.hash)] = twin
        return twin

    def do_settle(self) -> list[str]:
        """settle: deliver everything, batches too, exchange heights and let time pass, until all live replicas stand
        at one height and nothing is left to decide; fails when that never comes."""
        council = self.council
        before = len(council.log)
        for _ in range(SETTLE_ROUNDS_MAX):
            council.deliver()
            live = [seat for seat in council.seats if seat.alive]
            heights = sorted({seat.replica.height for seat in live})
            owed = any(council.uncommitted(seat) or seat.chain.context().owes_certificate for seat in live)
            if len(heights) == 1 and not owed:
                decided = [line for line in council.log[before:] if "DECIDES" in line]
                del council.log[before:]
                return [f"(settled at height {heights[0]}, {len(decided)} decisions)"]
            council.wait(250)
            council.share()
            for seat in live:
                for other in live:
                    if other is not seat:
                        height = other.replica.height
                        council.step(seat.index, PeerHeight(other.key.public, height))
        raise AssertionError("it never settles: " + "; ".join(council.states()))


def unproved(key: HashKey, view: int, block: Block) -> Prepared:
    """A prepared certificate that only its maker signed."""
    vote = sign_prepare(key, CHAIN_ID, block.height, view, block.hash)
    return Prepared(PreparedCertificate(view, block.hash, [Seal(0, vote.signature)]), block)


def parse(text: str) -> list[tuple[str, list[str]]]:
    """Commands and remarks with the lines printed after each."""
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith((">", "#")) or not line.strip():
            parts.append((line, []))
        elif parts:
            parts[-1][1].append(line)
    return parts


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    player, lines = Player(), []
    text = path.read_text(encoding="utf-8")
    for head, _ in parse(text):
        lines.append(head)
        if head.startswith(">"):
            lines += ["  " + line for line in player.play(head[1:].strip())]
    played = "\n".join(lines).rstrip() + "\n"
    if request.config.getoption("--rewrite", default=False):
        path.write_text(played, encoding="utf-8")
        return
    assert played == text, f"{path.name}: run with --rewrite, and understand the diff"


def test_every_command_is_documented() -> None:
    commands = [name for name in dir(Player) if name.startswith("do_")]
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in commands:
        word = re.escape(name[3:].replace("_", "-"))
        assert re.search(rf"`{word}\b", page), f"{name} is not in README.md"
        assert getattr(Player, name).__doc__


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 20

"""What this machine can do at best, measured beside every round: checks of signatures, and SHA-256.

Every validator checks every client's signature, so n validators on c cores cannot commit more than
c * (checks per second and core) / n transactions per second. The checks are PyNaCl's own, of messages of 512 bytes, on
all cores at the same time, so that whatever else the machine does slows both the ceiling and what is measured under it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from nacl import bindings

MESSAGE_BYTES: Final = 512
MEASURED_S: Final = 1.0
BURST: Final = 64


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`verifies_per_s` is of all cores together, as much of them as this program got; `verify_cpu_us` is the CPU time
    of one check, which other programs hardly move; `sha256_us` is for 64 bytes, one core."""

    cores: int
    verifies_per_s: float
    verify_cpu_us: float
    sha256_us: float

    def tps(self, validators: int) -> float:
        """The most transactions per second that so many validators on this machine could commit."""
        return self.verifies_per_s / validators


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(seconds: float = MEASURED_S) -> Ceiling:
    """Check signatures on all cores for so long. A check frees the GIL, so threads fill the cores."""
    key, secret = bindings.crypto_sign_seed_keypair(bytes(range(32)))
    signed = bindings.crypto_sign(os.urandom(MESSAGE_BYTES), secret)
    counts, cpu_s = [0] * cores(), [0.0] * cores()
    end = time.perf_counter() + seconds

    def check(place: int) -> None:
        done, begun_s = 0, time.thread_time()
        while time.perf_counter() < end:
            for _ in range(BURST):
                bindings.crypto_sign_open(signed, key)
            done += BURST
        counts[place], cpu_s[place] = done, time.thread_time() - begun_s

    started = time.perf_counter()
    threads = [threading.Thread(target=check, args=(place,)) for place in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - started
    total = sum(counts)
    return Ceiling(len(counts), total / took_s, sum(cpu_s) / total * 1e6, sha256_us())


def sha256_us(count: int = 20_000) -> float:
    """Microseconds to hash 64 bytes, the smallest thing a trie is made of."""
    data = bytes(64)
    started = time.perf_counter()
    for _ in range(count):
        hashlib.sha256(data).digest()
    return (time.perf_counter() - started) / count * 1e6

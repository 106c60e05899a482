"""The cache never lies, keeps what is used, and stays within its bound."""

from __future__ import annotations

import random

from consilium.storage.cache import ENTRY_OVERHEAD_BYTES, GenerationCache, NodeCache

MISSING = b"missing"


def test_it_answers_what_was_put_last_or_nothing() -> None:
    draw = random.Random(1)
    cache, twin = GenerationCache(40 * (ENTRY_OVERHEAD_BYTES + 4)), dict[bytes, bytes | None]()
    hits = 0
    for _ in range(5_000):
        key = b"%d" % draw.randrange(60)
        if draw.random() < 0.4:
            twin[key] = None if draw.random() < 0.2 else b"%d" % draw.randrange(9)
            cache.put(key, twin[key])
        else:
            value = cache.get(key, MISSING)
            if value is not MISSING:
                assert value == twin[key]
                hits += 1
        assert len(cache) <= 42
    assert hits > 1_000


def test_what_is_used_outlives_what_is_not() -> None:
    cache = GenerationCache(20 * (ENTRY_OVERHEAD_BYTES + 4))
    cache.put(b"used", b"")
    for number in range(200):
        cache.put(b"%4d" % number, b"")
        assert cache.get(b"used", MISSING) == b""
    assert cache.get(b"   0", MISSING) is MISSING
    assert cache.get(b" 199", MISSING) == b""


def test_what_is_dropped_is_gone_and_makes_room() -> None:
    cache = GenerationCache(20 * (ENTRY_OVERHEAD_BYTES + 4))
    cache.put(b"kept", b"")
    for number in range(200):
        cache.put_all([b"%4d" % number], [b""])
        cache.drop_all([b"%4d" % number, b"none"])
    assert len(cache) == 1
    assert cache.get(b"kept", MISSING) == b""  # never used, and never pushed out


def test_many_are_put_as_one_by_one() -> None:
    cache = GenerationCache(20 * (ENTRY_OVERHEAD_BYTES + 5))
    twin: dict[bytes, bytes | None] = {}
    for number in range(0, 600, 3):
        keys = [b"%4d" % (number % 33 + at) for at in range(3)]
        values = [b"%d" % at if at else None for at in range(3)]
        cache.put_all(keys, values)
        twin.update(zip(keys, values, strict=True))
        assert len(cache) <= 26
        for key in keys:
            assert cache.get(key, MISSING) == twin[key]
    for key, value in twin.items():
        assert cache.get(key, MISSING) in (MISSING, value)


def test_replaced_values_are_measured_once() -> None:
    cache = GenerationCache(20 * (ENTRY_OVERHEAD_BYTES + 5))
    cache.put(b"kept", b"")
    for number in range(500):
        # One key over and over fills nothing, one by one or many at once.
        cache.put(b"same", b"%d" % (number % 10))
        cache.put_all([b"same", b"more"], [b"%d" % (number % 10), None if number % 2 else b"1"])
    assert len(cache) == 3
    # Until it grows.
    cache.put_all([b"same"], [bytes(20 * (ENTRY_OVERHEAD_BYTES + 5))])
    assert cache.young == {}


def test_a_cache_of_nodes_keeps_what_is_used_and_forgets_what_is_dropped() -> None:
    cache, twin = NodeCache(20 * (ENTRY_OVERHEAD_BYTES + 8), 8), dict[bytes, bytes]()
    draw = random.Random(2)
    cache.put_all({b"used": b"1"})
    for number in range(400):
        keys = [b"%d" % draw.randrange(30) for _ in range(3)]
        made = dict.fromkeys(keys, b"%d" % number)
        cache.put_all(dict(made))
        twin.update(made)
        gone = b"%d" % draw.randrange(30)
        cache.drop(gone)
        twin.pop(gone, None)
        assert cache.get(b"used") == b"1"
        assert cache.get(gone) is None
        assert len(cache) <= 26
        asked = b"%d" % draw.randrange(30)
        assert cache.get(asked) in (None, twin.get(asked))
        assert all(cache.young.get(key, value) == value for key, value in twin.items())


def test_a_cache_of_nodes_holds_as_many_as_they_are_large() -> None:
    def held(size: int) -> int:
        cache = NodeCache(1_000_000, 1_000)
        for number in range(200):
            cache.put_all({b"%d %d" % (number, place): bytes(size) for place in range(100)})
        return len(cache)

    assert held(100) * (100 + ENTRY_OVERHEAD_BYTES) <= 1_000_000 + 100 * (100 + ENTRY_OVERHEAD_BYTES)
    assert held(100) > 2 * held(1_000) > 0


def test_a_cache_of_nodes_says_whether_it_ever_forgot() -> None:
    cache = NodeCache(2 * 10 * (ENTRY_OVERHEAD_BYTES + 8), 8)
    for number in range(20):
        cache.put_all({b"%d" % number: b""})
    assert (len(cache), cache.has_forgotten) == (20, False)
    for number in range(20, 23):
        cache.put_all({b"%d" % number: b""})
    assert cache.has_forgotten
    assert len(cache) < 23

"""Places for callers of whom nothing is known yet: few, never refused, and hard to take from others."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.p2p.places import Places, neighbourhood

HERE, THERE = "192.0.2.1", "192.0.2.2"


def first(callers: Sequence[str]) -> str:
    return min(callers)


def places(places_max: int = 128, per_host_max: int = 48, fair: int = 4) -> Places[str]:
    return Places(places_max, per_host_max, fair, first)


def test_while_there_is_room_nobody_gives_way() -> None:
    doorway = places(places_max=3)
    assert [doorway.enter(HERE, name) for name in "abc"] == [None, None, None]
    assert len(doorway) == 3


def test_who_left_has_given_its_place_back_and_leaves_once() -> None:
    doorway = places(places_max=1)
    doorway.enter(HERE, "a")
    doorway.leave("a")
    doorway.leave("a")
    assert len(doorway) == 0
    assert doorway.enter(THERE, "b") is None


def test_one_address_takes_places_from_itself() -> None:
    doorway = places(per_host_max=2)
    doorway.enter(THERE, "member")
    assert [doorway.enter(HERE, name) for name in "abcd"] == [None, None, "a", "b"]
    assert len(doorway) == 3


def test_who_came_from_where_most_are_gives_way_to_a_caller_from_elsewhere() -> None:
    doorway = places(places_max=10)
    for name in "abcdefgh":
        doorway.enter(HERE, name)
    for name in ("i", "j"):
        doorway.enter("192.0.2.3", name)
    assert doorway.enter(THERE, "member") == "a"


def test_a_caller_from_where_most_are_takes_no_place_from_elsewhere() -> None:
    doorway = places(places_max=10)
    doorway.enter(THERE, "member")
    doorway.enter(THERE, "member again")
    for name in "abcdefgh":
        doorway.enter(HERE, name)
    assert [doorway.enter(HERE, name) for name in "ijk"] == ["a", "b", "c"]


def test_two_lanes_of_a_member_are_not_many_beside_single_callers() -> None:
    """Strangers come from many addresses, one from each: who dials two lanes at once must not go first for it."""
    doorway = places(places_max=10)
    for number in range(8):
        doorway.enter(f"198.51.100.{number}", f"a stranger {number}")
    doorway.enter(THERE, "votes")
    doorway.enter(THERE, "bulk")
    assert doorway.enter("203.0.113.1", "one more") == "a stranger 0"


def test_a_network_of_ipv6_is_one_address() -> None:
    doorway = places(per_host_max=2)
    assert [doorway.enter(f"2001:db8:0:1::{n}", f"{n}") for n in range(3)] == [None, None, "0"]
    assert doorway.enter("2001:db8:0:2::1", "elsewhere") is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_neighbourhoods(host: str, expected: str) -> None:
    assert neighbourhood(host) == expected


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_as_its_dumb_twin(
    steps: list[tuple[int, bool]], places_max: int, per_host_max: int, fair: int
) -> None:
    """The twin keeps a list of all, and counts anew each time. Whom both would choose from is compared."""
    offered: list[list[int]] = []

    def choose(callers: Sequence[int]) -> int:
        offered.append(list(callers))
        return random.Random(len(offered)).choice(callers)

    doorway: Places[int] = Places(places_max, per_host_max, fair, choose)
    inside: list[tuple[int, int]] = []
    for caller, (host, leaves) in enumerate(steps):
        if leaves and inside:
            doorway.leave(inside.pop(0)[1])
        hosts = [other for other, _ in inside]
        expected: list[int] = []
        if hosts.count(host) >= per_host_max:
            expected = [one for other, one in inside if other == host]
        elif len(inside) >= places_max:
            crowd = {other: max(fair, [*hosts, host].count(other)) for other in {*hosts, host}}
            expected = [one for other, one in inside if crowd[other] == max(crowd.values())]
        offered.clear()
        gone = doorway.enter(f"192.0.2.{host}", caller)
        assert sorted(offered[0] if offered else []) == sorted(expected)
        assert (gone in expected) if expected else gone is None
        inside = [entry for entry in inside if entry[1] != gone]
        inside.append((host, caller))
        assert len(doorway) == len(inside) <= places_max

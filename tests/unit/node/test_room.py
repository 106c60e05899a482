"""Room: what is taken is gone, and what does not fit takes nothing."""

from __future__ import annotations

import pytest

from consilium.node.room import Room


def test_each_of_three_is_bounded_to_the_last() -> None:
    room = Room(10, 3, 100)
    assert room.take(4, 1, 40)
    assert room.take(6, 2, 60)
    assert room.take(0, 0, 0)


@pytest.mark.parametrize("asked", [(11, 1, 1), (1, 4, 1), (1, 1, 101)])
def test_what_does_not_fit_takes_nothing(asked: tuple[int, int, int]) -> None:
    room = Room(10, 3, 100)
    assert not room.take(*asked)
    assert room.take(10, 3, 100)

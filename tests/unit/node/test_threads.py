"""Threads of a node give way to each other."""

from __future__ import annotations

import sys

from consilium.node import threads


def test_the_interpreter_is_shared_in_small_pieces() -> None:
    before = sys.getswitchinterval()
    try:
        threads.share_interpreter()
        assert sys.getswitchinterval() == threads.SWITCH_INTERVAL_S
    finally:
        sys.setswitchinterval(before)

"""Reading the store for peers: in a thread, a few at a time; for those who do not vote with a rest after each answer.

Validators that lag are helped at once: the network needs them. Everybody else shares one reader that rests longer than
it works, so however many ask, and however often, they take less than half of a core, and no vote waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

VALIDATORS_AT_ONCE: Final = 2
REST_SHARE: Final = 2.0
"""After an answer that took t, the reader rests for so many t: at most a third of a core goes into it."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Serving:
    """See the module."""

    def __init__(self, rest_share: float = REST_SHARE) -> None:
        self._rest_share = rest_share
        self._validators = asyncio.Semaphore(VALIDATORS_AT_ONCE)
        self._others = asyncio.Lock()

    async def for_validator(self, read: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Read for a validator."""
        async with self._validators:
            return await asyncio.to_thread(read, *args, **kwargs)

    async def for_other(
        self, answer: Callable[[_T], object], read: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Read for somebody else, hand the result to `answer`, and rest."""
        async with self._others:
            # The loop's own clock: on a loop over simulated time the rest must not depend on the machine.
            clock = asyncio.get_running_loop().time
            started_s = clock()
            result = await asyncio.to_thread(read, *args, **kwargs)
            taken_s = clock() - started_s
            answer(result)
            await asyncio.sleep(taken_s * self._rest_share)

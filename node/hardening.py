"""What keeps a process's secrets out of core dumps and away from debuggers of the same user.

Two settings, since neither is enough: the size limit of core files does not stop a handler that the kernel pipes dumps
to, and that a process is not dumpable is known to Linux only. A process that is not dumpable cannot be traced by its
own user either, nor its memory be read through /proc. Python cannot wipe or lock the memory that held a secret: what is
swapped out is for encrypted swap to protect, which docs/privacy.md asks of operators.

Sources: getrlimit(2), RLIMIT_CORE; prctl(2), PR_SET_DUMPABLE; core(5).
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

from consilium.ledger.errors import Refused

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4


def keep_secrets_in() -> None:
    """Make this process leave no core dump and let nobody of its own user trace it; check that it took effect.

    Raises Refused `cli.core_dumps` where it did not.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise Refused("cli.core_dumps", str(error)) from None
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not secrets_are_kept_in():
        raise Refused("cli.core_dumps")


def secrets_are_kept_in() -> bool:
    """Whether the kernel says that this process leaves no core dump."""
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        return False
    if sys.platform != "linux":
        return True
    return int(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 0

"""Makes the kernel refuse this process's syncs or writes, as a dying or a full disk does: real errors, no stand-ins.

A seccomp filter answers for the chosen system calls, on every thread, from the moment it is installed until the process
ends. It cannot be taken back, as little as a disk that died. Source: seccomp(2), Linux UAPI linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from typing import Final

_NUMBERS: Final = {
    # machine: (seccomp, write, pwrite64, fsync, fdatasync)
    "x86_64": (317, 1, 18, 74, 75),
    "aarch64": (277, 64, 68, 82, 83),
}
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_RET_ALLOW: Final = 0x7FFF0000
_RET_ERRNO: Final = 0x00050000
_LOAD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_RETURN: Final = 0x06
_NUMBER_AT: Final = 0
_FIRST_ARGUMENT_AT: Final = 16
_STANDARD_STREAMS: Final = 2

available: Final = sys.platform == "linux" and platform.machine() in _NUMBERS
"""Whether this machine can play these faults."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def fail_syncs() -> None:
    """From now on fsync and fdatasync fail with EIO."""
    _, _, _, fsync, fdatasync = _numbers()
    _install(
        [
            (_LOAD_WORD, 0, 0, _NUMBER_AT),
            (_JUMP_EQUAL, 1, 0, fsync),
            (_JUMP_EQUAL, 0, 1, fdatasync),
            (_RETURN, 0, 0, _RET_ERRNO | errno.EIO),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    )


def fill_disk() -> None:
    """From now on write and pwrite fail with ENOSPC, except to the standard streams: the log still tells."""
    _, write, pwrite, _, _ = _numbers()
    _install(
        [
            (_LOAD_WORD, 0, 0, _NUMBER_AT),
            (_JUMP_EQUAL, 3, 0, pwrite),
            (_JUMP_EQUAL, 0, 3, write),
            (_LOAD_WORD, 0, 0, _FIRST_ARGUMENT_AT),
            (_JUMP_GREATER, 0, 1, _STANDARD_STREAMS),
            (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSPC),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    )


def _numbers() -> tuple[int, int, int, int, int]:
    if not available:
        raise OSError("these faults are played by seccomp, on Linux on x86-64 or arm64 only")
    return _NUMBERS[platform.machine()]


def _install(instructions: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(instructions), ctypes.cast(buffer, ctypes.c_void_p))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    number = _numbers()[0]
    if system.syscall(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "seccomp")

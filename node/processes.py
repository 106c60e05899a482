"""Node processes of this machine: start one, know it again, end it, and never another one.

A process is known by its number, the time at which it started and the boot of the machine it started on: a number alone
is given to somebody else sooner or later. The file `pid` in the node's folder has all three; whoever finds that they
do not fit finds no node.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from consilium.ledger.errors import Refused
from consilium.node.files import read_bounded, write_atomically

PID_FILE: Final = "pid"
LOG_FILE: Final = "node.log"
PID_BYTES_MAX: Final = 1_024
LOG_TAIL_LINES: Final = 15
LOG_TAIL_BYTES: Final = 16 * 1024
POLL_S: Final = 0.02
PS_TIMEOUT_S: Final = 5.0
OWN_SECTIONS: Final = ("NODE", "P2P", "RPC", "CUSTODIAN")
"""Settings in the environment that cannot be meant for several nodes at once."""
PROGRAM: Final = (sys.executable, "-P", "-m", "consilium.node.cli.main", "node", "start")
"""What runs a node; the folder and the option `--stop-on-eof` follow."""
SECRETS: Final = ("CONSILIUM_PASSPHRASE", "CONSILIUM_WALLET_PASSPHRASE")
"""What the environment of a command may hold and its nodes must not inherit: theirs are in files."""


class ProcessMark(msgspec.Struct, frozen=True):
    """A process, in a way that a later one with the same number is not taken for it."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs. One that ended and was not yet waited for does not."""
        return _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this process, and to no other. False where it has ended."""
        if not self.alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended. False where it still runs after the time.

        The process may be nobody's child by now, so there is nothing to wait on but the list of processes.
        """
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def end(self, timeout_s: float) -> bool:
        """Ask it to stop; after the time, stop it. True where it went by itself. Blocks: call it from a thread."""
        if not self.send(signal.SIGTERM) or self.wait(timeout_s):
            return True
        self.send(signal.SIGKILL)
        self.wait(timeout_s)
        return False


@dataclass(frozen=True, slots=True)
class Child:
    """A node that this program started: `process` is its own child."""

    process: subprocess.Popen[bytes]
    mark: ProcessMark

    def wait(self, timeout_s: float) -> int:
        """Wait until it has ended; its status. Raises subprocess.TimeoutExpired."""
        status = self.process.wait(timeout_s)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return status


_detached: dict[int, subprocess.Popen[bytes]] = {}
"""Nodes on their own are this program's children nevertheless: it waits for those that end before it does."""


def start_node(
    folder: Path,
    *,
    owned: bool,
    environment: Mapping[str, str] = os.environ,
    program: Sequence[str] = PROGRAM,
) -> Child:
    """Start a node on its folder, its output appended to `node.log`. A `program` of one's own is called as `PROGRAM`.

    An `owned` node ends with this program, however that ends: its standard input is a pipe whose other end only this
    program has. Otherwise it is on its own, in a session of its own.
    """
    command = [*program, str(folder)]
    if owned:
        command.append("--stop-on-eof")
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if owned else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=node_environment(environment),
            # A group of its own either way: Ctrl-C at the terminal is meant for whoever started the nodes.
            start_new_session=not owned,
            process_group=0 if owned else None,
        )
    finally:
        os.close(log)
    if not owned:
        _detached[process.pid] = process
    mark = mark_of(process.pid)
    write_atomically(folder / PID_FILE, msgspec.json.encode(mark) + b"\n")
    return Child(process, mark)


def mark_of(pid: int) -> ProcessMark:
    """The mark of a process that was just started."""
    return ProcessMark(pid, _started(pid) or "")


def running(folder: Path) -> ProcessMark | None:
    """The node that runs on a folder, if one does and was started by `start_node`."""
    try:
        mark = msgspec.json.decode(read_bounded(folder / PID_FILE, PID_BYTES_MAX), type=ProcessMark)
    except (Refused, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return mark if mark.alive else None


def forget(folder: Path) -> None:
    """Remove the mark of a process that has ended."""
    (folder / PID_FILE).unlink(missing_ok=True)
    for pid in [pid for pid, process in _detached.items() if process.poll() is not None]:
        del _detached[pid]


def log_tail(folder: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines that a node wrote."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = file.read(LOG_TAIL_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def node_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for one of several nodes: without settings that are meant for a single one."""
    own = tuple(f"CONSILIUM_{section}_" for section in OWN_SECTIONS)
    return {
        name: value for name, value in environment.items() if not name.startswith(own) and name not in SECRETS
    }


def _started(pid: int) -> str | None:
    """When a process started, as an opaque text; None where there is no such process, or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self").exists() else _started_by_ps(pid)
    # Fields are counted from the last parenthesis: the name before it may hold anything. proc(5): 3 state, 22 start.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else f"{boot} {fields[19].decode('ascii')}"


def _started_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, check=False, timeout=PS_TIMEOUT_S)
    state, _, started = found.stdout.decode("ascii", errors="replace").strip().partition(" ")
    return None if found.returncode != 0 or state.startswith("Z") else started.strip()

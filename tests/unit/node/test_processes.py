"""A process is known again, and never another one ended in its place."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consilium.node import processes
from consilium.node.processes import ProcessMark

SLEEPER = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    *SLEEPER[:3],
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    yield from _running(SLEEPER)


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    yield from _running(STUBBORN)


def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def test_a_process_is_known_again_from_its_file(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    mark = processes.mark_of(sleeper.pid)
    (tmp_path / processes.PID_FILE).write_bytes(msgspec.json.encode(mark))
    assert processes.running(tmp_path) == mark
    processes.forget(tmp_path)
    assert processes.running(tmp_path) is None


def test_a_number_that_was_given_to_another_process_is_never_sent_a_signal(
    sleeper: subprocess.Popen[bytes],
) -> None:
    recycled = ProcessMark(sleeper.pid, "another boot, another time")
    assert not recycled.alive
    assert not recycled.send(signal.SIGKILL)
    assert recycled.end(0.0)
    assert sleeper.poll() is None


def test_a_process_that_ended_is_not_alive_even_before_it_is_waited_for(
    sleeper: subprocess.Popen[bytes],
) -> None:
    mark = processes.mark_of(sleeper.pid)
    assert mark.alive
    assert mark.end(20.0)
    assert not mark.alive
    assert not mark.send(signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM


def test_who_does_not_go_is_made_to(stubborn: subprocess.Popen[bytes]) -> None:
    mark = processes.mark_of(stubborn.pid)
    assert not mark.wait(0.0)
    assert not mark.end(0.2)
    assert stubborn.wait() == -signal.SIGKILL


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"123", b'{"pid":"x"}', b"\xff", bytes(5_000)])
def test_a_file_that_is_no_mark_is_no_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / processes.PID_FILE).write_bytes(content)
    assert processes.running(tmp_path) is None


def test_nodes_do_not_inherit_what_is_meant_for_one_of_them_or_is_secret() -> None:
    given = {
        "PATH": "/bin",
        "CONSILIUM_LOG_LEVEL": "debug",
        "CONSILIUM_P2P_PORT": "1",
        "CONSILIUM_RPC_PORT": "1",
        "CONSILIUM_NODE_NAME": "x",
        "CONSILIUM_CUSTODIAN_WALLET_FILE": "x",
        "CONSILIUM_PASSPHRASE": "secret",
        "CONSILIUM_WALLET_PASSPHRASE": "secret",
    }
    assert processes.node_environment(given) == {"PATH": "/bin", "CONSILIUM_LOG_LEVEL": "debug"}


def test_the_end_of_a_log(tmp_path: Path) -> None:
    assert processes.log_tail(tmp_path) == ""
    (tmp_path / processes.LOG_FILE).write_text("".join(f"line {n}\n" for n in range(10_000)))
    assert processes.log_tail(tmp_path, 2) == "line 9998\nline 9999"

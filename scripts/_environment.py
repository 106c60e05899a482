"""Build the virtual environment that the scripts run in, from the hashed lock; print where it is.

Runs under any Python 3.11 or 3.12, with the standard library alone. A stamp inside the environment says what it was
built from: while the stamp is true nothing is done. The stamp is removed before the first change and written after
the last, so that an interrupted build is started again. A lock file beside the environment keeps two scripts that
start at once from building it twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-dev.lock"
STAMP = "consilium-stamp"
REDIRECTING_SETTINGS = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_HASHES")
"""Settings of pip that would send packages elsewhere, or refuse to install the project itself."""


class CannotBuild(Exception):
    """The environment cannot be built; the message says what to do."""


def main() -> int:
    folder = Path(os.environ.get("CONSILIUM_VENV") or ROOT / ".venv").absolute()
    try:
        if not _is_current(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_name(folder.name + ".lock")):
                if not _is_current(folder):
                    _build(folder)
    except (CannotBuild, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def _is_current(folder: Path) -> bool:
    stamp = folder / STAMP
    python = folder / "bin" / "python"
    return stamp.is_file() and os.access(python, os.X_OK) and stamp.read_text() == _fingerprint(folder)


def _fingerprint(folder: Path) -> str:
    """What the environment depends on: the lock, the project's metadata, its place, this program, the Python."""
    state = hashlib.sha256()
    for source in (LOCK, ROOT / "pyproject.toml", Path(__file__), folder / "pyvenv.cfg"):
        content = source.read_bytes() if source.is_file() else b""
        state.update(len(content).to_bytes(8, "big") + content)
    state.update(f"{ROOT}\0{folder}".encode())
    return state.hexdigest() + "\n"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another script is building the environment; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path) -> None:
    (folder / STAMP).unlink(missing_ok=True)
    python = folder / "bin" / "python"
    if not _is_usable(python):
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
            raise CannotBuild(f"{folder} is no virtual environment: empty it, or set CONSILIUM_VENV")
        _say(f"making {folder} with Python {sys.version.split()[0]}")
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(folder)
    _say("installing the locked packages")
    _pip(python, "--require-hashes", "-r", str(LOCK))
    _pip(python, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    unfinished = folder / f"{STAMP}.{os.getpid()}"
    unfinished.write_text(_fingerprint(folder))
    unfinished.replace(folder / STAMP)


def _is_usable(python: Path) -> bool:
    """Whether the environment's own Python still runs, and is of a version that fits."""
    check = "import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"
    if not os.access(python, os.X_OK):
        return False
    return subprocess.run([python, "-I", "-c", check], capture_output=True, check=False).returncode == 0


def _pip(python: Path, *arguments: str) -> None:
    settings = {name: value for name, value in os.environ.items() if name not in REDIRECTING_SETTINGS}
    command = [str(python), "-I", "-m", "pip", "install", "--quiet", "--no-input", *arguments]
    settings["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(command, env=settings, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise CannotBuild(
            "pip could not install what the lock names (its message stands above). It needs a package index: check "
            "the network, or point PIP_INDEX_URL or PIP_FIND_LINKS at a mirror. Anywhere but on Linux x86_64 plyvel "
            "has no wheel, and needs a C++ compiler and LevelDB (libleveldb-dev, or leveldb from Homebrew)."
        )


def _say(text: str) -> None:
    print(f"environment: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

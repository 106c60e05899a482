"""Files that commands write: whole or not at all, and none in place of another that nobody meant to lose.

Whoever does what cannot be done twice (opens a summary, makes a key) asks first whether the result can be kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from consilium.ledger.errors import Refused
from consilium.node import files

PRIVATE_FOLDER_MODE: Final = 0o700


def require_free(*paths: Path) -> None:
    """That new files can be written there, as far as that can be known. Raises Refused `cli.unwritable`."""
    for path in paths:
        if path.exists():
            raise Refused("cli.unwritable", f"{path} exists")
        if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
            raise Refused("cli.unwritable", f"{path}: no folder that can be written to")


def write_new(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """Write a new file. Raises Refused `cli.unwritable`."""
    require_free(path)
    write_over(path, raw, mode)


def write_over(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """Write a file, in place of what is there. Raises Refused `cli.unwritable`."""
    try:
        files.write_atomically(path, raw, mode)
    except OSError as error:
        raise Refused("cli.unwritable", f"{path}: {error.strerror}") from None


def private_folder(path: Path) -> None:
    """Make a folder for its owner alone, unless it is there. Raises Refused `cli.unwritable`."""
    try:
        path.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused("cli.unwritable", f"{path}: {error.strerror}") from None

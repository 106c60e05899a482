"""`consilium node backup | restore | resync | migrate | check`: what an operator does with a node's data."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from consilium.client.streaming import download
from consilium.ledger.errors import Refused
from consilium.node import files
from consilium.node.cli import options
from consilium.node.cli.inputs import node_config, target
from consilium.node.cli.output import Report, example, reporting
from consilium.node.config import Config

PART_SUFFIX: Final = ".part"
MIB: Final = 1024 * 1024

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The node's folder.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `consilium node`."""
    app.command("backup", epilog=example("consilium node backup ./node --to node-2026-11-21.backup"))(backup)
    app.command("restore", epilog=example("consilium node restore ./node node-2026-11-21.backup"))(restore)
    app.command("resync", epilog=example("consilium node resync ./node"))(resync)
    app.command("migrate", epilog=example("consilium node migrate ./node"))(migrate)
    app.command("check", epilog=example("consilium node check ./node"))(check)


def backup(
    folder: FolderArgument,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Copy a node's data, running or not, into one signed file. Its keys and wallet are not in it: copy these too.

    The file holds ciphertext and public records, no keys; and no promise: see docs/backup.md.
    """
    with reporting(as_json) as report:
        config = node_config(folder)
        with _whole_file(to) as file, report.progress("MiB copied") as progress:
            size = _copy(config, folder, file, lambda done: progress(done // MIB, 0))
        report.result(
            {"file": str(to), "bytes": size},
            lambda console: console.print(f"{to}: {size} bytes", markup=False),
        )


def restore(
    folder: FolderArgument,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Put a backup in place of a node's missing data; everything in it is checked first.

    The node's folder has its configuration, its key and the genesis; its data folder is empty or missing. The
    restored node catches up when it starts; a validator does not vote before the others have told it how far they are.
    """
    with reporting(as_json) as report:
        from consilium.node.backup import restore as restore_backup

        config = node_config(folder)
        with _opened(archive) as source, report.progress("checked") as progress:
            summary = restore_backup(config, source, lambda _, done: progress(done, 0))
        head = summary.head
        report.result(
            {"folder": str(folder), "height": head.height, "time_ms": head.time_ms, "rows": summary.rows},
            lambda console: console.print(f"{folder}: restored to height {head.height}", markup=False),
        )


def resync(
    folder: FolderArgument,
    snapshot: Annotated[
        bool,
        typer.Option("--snapshot", help="Begin with a snapshot of the state, however short the chain."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Begin a stopped node's chain anew in place of a damaged store; it catches up from its peers when it starts.

    The damaged store is renamed, not deleted. Envelopes, shares and a sound promise stay.
    """
    with reporting(as_json) as report:
        from consilium.node.stores import renew_stores, request_staging

        config = node_config(folder)
        aside = [str(path) for path in renew_stores(config)]
        if snapshot:
            request_staging(config)
        report.result(
            {"folder": str(folder), "set_aside": aside},
            lambda console: console.print(
                f"{folder}: ready to synchronise; set aside: {', '.join(aside)}", markup=False
            ),
        )


def migrate(folder: FolderArgument, as_json: options.Json = False) -> None:
    """Bring a stopped node's chain to the format that this program reads; a call that was interrupted goes on.

    Make a backup with the older program first: no way leads back.
    """
    with reporting(as_json) as report:
        from consilium.node.stores import migrate_stores

        with report.progress("heights rewritten") as progress:
            formats = migrate_stores(node_config(folder), progress)
        text = f"from format {formats[0]}" if formats else "has the present format already"
        report.result(
            {"folder": str(folder), "formats": formats},
            lambda console: console.print(f"{folder}: {text}", markup=False),
        )


def check(folder: FolderArgument, as_json: options.Json = False) -> None:
    """Read all data of a stopped node: every checksum, the chain of headers, the state's root, every envelope."""
    with reporting(as_json) as report:
        config = node_config(folder)
        value = _checked(config, report)
        report.result(
            value,
            lambda console: console.print(
                f"{folder}: sound at height {value['height']}, block {value['tip_hash']}", markup=False
            ),
        )


def _copy(config: Config, folder: Path, file: BinaryIO, progress: Callable[[int], None]) -> int:
    """From the node itself where it runs, else from its folder. Returns how many bytes were written."""
    from consilium.node.backup import backup_stopped

    size = 0
    try:
        for piece in backup_stopped(config, time.time_ns() // 1_000_000):
            file.write(piece)
            size += len(piece)
            progress(size)
    except Refused as refusal:
        if refusal.code != "store.locked":
            raise
    else:
        return size
    return asyncio.run(_fetch(folder, file, progress))


async def _fetch(folder: Path, file: BinaryIO, progress: Callable[[int], None]) -> int:
    node = target(str(folder))
    size = 0
    async for piece in download(node.url, "/backup", node.token):
        await asyncio.to_thread(file.write, piece)
        size += len(piece)
        progress(size)
    return size


def _checked(config: Config, report: Report) -> dict[str, Any]:
    from consilium.node.backup import check_stores

    with report.progress("checked") as progress:
        return check_stores(config, lambda _, done: progress(done, 0))


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that gets its name once it is whole and durable."""
    if path.exists():
        raise Refused("cli.unwritable", f"{path} exists")
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        with part.open("wb") as file:
            os.chmod(part, files.SECRET_MODE)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise Refused("cli.unwritable", f"{path}: {error}") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Refused("cli.unreadable", f"{path}: {error}") from None
    with file:
        yield file

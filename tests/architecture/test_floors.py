"""Every folder of code is a package, on a floor, in the wheel; and the contracts that keep the floors can fail."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.rules import AGREED_PATH, FLOORS, PROJECT

SETTINGS: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["tool"]["importlinter"]["contracts"]}


def _folders_of_code() -> set[str]:
    return {path.parent.name for path in PROJECT.glob("*/__init__.py")}


def test_every_folder_of_code_is_on_a_floor() -> None:
    on_floors = [name.strip() for layer in CONTRACTS["floors"]["layers"] for name in layer.split("|")]
    assert sorted(on_floors) == sorted(_folders_of_code()) == sorted(FLOORS)


def test_floors_are_in_the_order_of_the_house() -> None:
    assert CONTRACTS["floors"]["layers"] == [
        "node",
        "gateway",
        "client",
        "contracts",
        "consensus | storage | p2p",
        "ledger",
    ]


def test_every_folder_of_code_is_linked_into_the_package() -> None:
    links = {
        path.name: path.readlink() for path in (PROJECT / "src" / "consilium").iterdir() if path.is_symlink()
    }
    assert links == {name: Path("..", "..", name) for name in _folders_of_code()}


def test_every_package_is_in_the_wheel() -> None:
    packages = {"consilium"}
    for floor in _folders_of_code():
        for marker in (PROJECT / floor).rglob("__init__.py"):
            packages.add(".".join(("consilium", *marker.parent.relative_to(PROJECT).parts)))
    assert sorted(SETTINGS["tool"]["setuptools"]["packages"]) == sorted(packages)


def test_every_floor_says_that_it_is_typed() -> None:
    assert [name for name in sorted(_folders_of_code()) if not (PROJECT / name / "py.typed").is_file()] == []


def test_every_module_stands_in_a_package() -> None:
    modules = [path for floor in FLOORS for path in (PROJECT / floor).rglob("*.py")]
    assert [str(path) for path in modules if not (path.parent / "__init__.py").is_file()] == []


def test_the_agreed_path_is_pure() -> None:
    purity = CONTRACTS["purity"]
    assert purity["source_modules"] == [f"consilium.{floor}" for floor in AGREED_PATH]
    banned = {
        "aiohttp",
        "asyncio",
        "datetime",
        "logging",
        "nacl",
        "os",
        "pathlib",
        "plyvel",
        "random",
        "secrets",
    }
    assert banned | {"socket", "ssl", "structlog", "threading", "time", "uuid"} <= set(
        purity["forbidden_modules"]
    )
    assert purity["ignore_imports"] == ["consilium.ledger.crypto -> nacl"]


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A house of empty floors under the project's own contracts."""
    settings = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    for name in ("", *FLOORS):
        folder = tmp_path / "consilium" / name
        folder.mkdir()
        (folder / "__init__.py").touch()
    (tmp_path / "consilium" / "ledger" / "crypto.py").write_text("import nacl.bindings\n", encoding="utf-8")
    return tmp_path


def _lint(house: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_contracts_allow_what_the_house_allows(small_house: Path) -> None:
    (small_house / "consilium" / "node" / "wire.py").write_text(
        "import asyncio\nfrom consilium import client, consensus, contracts, gateway, ledger, p2p, storage\n",
        "utf-8",
    )
    done = _lint(small_house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("floor", "line"),
    [
        ("ledger", "from consilium import consensus"),
        ("contracts", "from consilium import client"),
        ("consensus", "from consilium import storage"),
        ("storage", "from consilium import p2p"),
        ("client", "def f():\n    from consilium.node import anything"),
        ("ledger", "import asyncio"),
        ("contracts", "from datetime import datetime"),
        ("consensus", "import random"),
        ("contracts", "from nacl import bindings"),
        ("cellar", "import json"),
    ],
)
def test_the_contracts_find_what_the_house_forbids(small_house: Path, floor: str, line: str) -> None:
    folder = small_house / "consilium" / floor
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (small_house / "consilium" / "node" / "anything.py").touch()
    (folder / "intruder.py").write_text(line + "\n", encoding="utf-8")
    done = _lint(small_house)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout or floor == "cellar", done.stdout

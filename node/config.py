"""What a node is told before it starts: one TOML file, single values overridden by the environment, one frozen Config.

Each key's bounds and its sentence stand once, in the section's Struct: reading checks them, `write_config` prints
them into the file that `node init` makes. A key that nobody knows is refused rather than ignored: a misspelt limit
would be no limit. `CONSILIUM_<SECTION>_<KEY>` overrides a key (lists with commas); relative paths start at the file's
own folder. A port of 0 is asked from the system, and the node writes what it got to `ports.json`.

Source: TOML 1.0, toml.io.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from consilium.client.rpc_values import from_json_value
from consilium.ledger.errors import Refused
from consilium.node.config_sections import PEERS_MAX, SECTIONS, Config, Peer, Port, Section
from consilium.node.files import read_bounded, write_atomically

__all__ = [
    "Config",
    "Peer",
    "load_config",
    "read_peers",
    "read_ports",
    "write_config",
    "write_peers",
    "write_ports",
]

CONFIG_BYTES_MAX: Final = 256 * 1024
ENVIRONMENT_PREFIX: Final = "CONSILIUM_"

_T = TypeVar("_T", bound=Section)


class _PeersFile(Section, frozen=True):
    peers: Annotated[list[Peer], Meta(max_length=PEERS_MAX)] = msgspec.field(default_factory=list)


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file, then the environment. Raises Refused `config.*`: file, key and what was expected."""
    document = _read_toml(path)
    unknown = sorted(document.keys() - SECTIONS.keys())
    if unknown:
        known = ", ".join(f"[{name}]" for name in SECTIONS)
        raise Refused("config.unknown_key", f"{path}: {unknown[0]}: expected one of {known}")
    given: dict[str, dict[str, Any]] = {}
    for name in SECTIONS:
        section = document.get(name, {})
        if not isinstance(section, dict):
            raise Refused("config.invalid_value", f"{path}: {name}: expected a table, [{name}]")
        given[name] = dict(section)
    sections = {name: _section(path, name, kind, given[name], environment) for name, kind in SECTIONS.items()}
    _refuse_strays(environment)
    config = Config(folder=path.resolve().parent, **sections)
    _check_whole(path, config)
    extra = read_peers(config.peers_path) if config.peers_path.exists() else []
    peers = _without_repetition(path, [*config.p2p.peers, *extra])
    rpc = config.rpc
    if rpc.tls_certificate:
        certificate, key = (str(config.folder / name) for name in (rpc.tls_certificate, rpc.tls_key))
        rpc = msgspec.structs.replace(rpc, tls_certificate=certificate, tls_key=key)
    return msgspec.structs.replace(config, p2p=msgspec.structs.replace(config.p2p, peers=peers), rpc=rpc)


def read_peers(path: Path) -> list[Peer]:
    """The peers of a peers file. Raises Refused `config.*`."""
    return _convert(str(path), "", _read_toml(path), _PeersFile).peers


def write_peers(path: Path, peers: Sequence[Peer]) -> None:
    """Write a peers file in one step: a reader sees the old one or the new one."""
    lines = [
        "# The other nodes of the network. Written by consilium; edits are kept until it is written again."
    ]
    for peer in peers:
        lines += ["", "[[peers]]", *_peer_lines(peer)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def write_config(path: Path, given: Mapping[str, Mapping[str, Any]], peers: Sequence[Peer] = ()) -> None:
    """Write a commented file: the given values as they are, every other key as a comment with its default.

    Raises Refused `config.*` where the values would not load, and FileExistsError where there is a file already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists")
    for name, values in given.items():
        if name not in SECTIONS:
            raise Refused("config.unknown_key", f"{path}: {name}")
        _convert(str(path), name, dict(values), SECTIONS[name])
    lines = [
        "# A Consilium node. Lines that start with # show the defaults.",
        f"# {ENVIRONMENT_PREFIX}<SECTION>_<KEY> in the environment overrides a key.",
    ]
    for name, kind in SECTIONS.items():
        lines += ["", f"# {(kind.__doc__ or '').strip()}", f"[{name}]"]
        lines += _section_lines(kind, given.get(name, {}))
    for peer in peers:
        lines += ["", "[[p2p.peers]]", *_peer_lines(peer)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def write_ports(config: Config, ports: Mapping[str, int]) -> None:
    """Tell other programs of this machine which ports the node got, e.g. `{"p2p": 40123, "rpc": 40124}`."""
    write_atomically(config.ports_path, json.dumps(dict(ports)).encode() + b"\n")


def with_ports(config: Config, p2p: int, rpc: int) -> Config:
    """The configuration of a node that is to listen where it did before."""
    replace = msgspec.structs.replace
    return replace(config, p2p=replace(config.p2p, port=p2p), rpc=replace(config.rpc, port=rpc))


def read_ports(path: Path) -> dict[str, int]:
    """The ports that a node wrote. Raises Refused `config.missing` while it has not started yet."""
    raw = read_bounded(path, CONFIG_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=dict[str, Port])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("config.malformed", f"{path}: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    raw = read_bounded(path, CONFIG_BYTES_MAX)
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused("config.malformed", f"{path}: the byte at offset {error.start} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Refused("config.malformed", f"{path}: {error}") from None


def _section(
    path: Path, name: str, kind: type[Section], given: dict[str, Any], environment: Mapping[str, str]
) -> Any:
    """One section: the file's values checked first, so that an error names where it stands."""
    _convert(str(path), name, given, kind)
    for field in msgspec.structs.fields(kind):
        variable = f"{ENVIRONMENT_PREFIX}{name}_{field.name}".upper()
        if variable not in environment or field.name == "peers":
            continue
        text = environment[variable]
        is_list = isinstance(field.default_factory, type) and issubclass(field.default_factory, list)
        value: Any = [item.strip() for item in text.split(",") if item.strip()] if is_list else text
        try:
            given[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise Refused("config.invalid_value", f"environment: {variable}: {_sentence(error)}") from None
    return _convert("environment", name, given, kind)


def _convert(place: str, section: str, given: dict[str, Any], kind: type[_T]) -> _T:
    known = set(kind.__struct_fields__)
    prefix = f"[{section}] " if section else ""
    for key in given:
        if key not in known:
            expected = ", ".join(sorted(known))
            raise Refused("config.unknown_key", f"{place}: {prefix}{key}: expected one of {expected}")
    try:
        return from_json_value(given, kind)
    except msgspec.ValidationError as error:
        sentence = str(error)
        where = re.search(r" - at `\$\.?(.*)`$", sentence)
        key = where[1] if where else ""
        raise Refused("config.invalid_value", f"{place}: {prefix}{key}: {_sentence(error)}") from None


def _sentence(error: msgspec.ValidationError) -> str:
    return str(error).split(" - at `", 1)[0]


def _refuse_strays(environment: Mapping[str, str]) -> None:
    """A variable that names a section but none of its keys is a misspelling."""
    known = {
        f"{ENVIRONMENT_PREFIX}{name}_{field}".upper()
        for name, kind in SECTIONS.items()
        for field in kind.__struct_fields__
        if field != "peers"
    }
    prefixes = tuple(f"{ENVIRONMENT_PREFIX}{name}_".upper() for name in SECTIONS)
    for variable in sorted(environment):
        if variable.startswith(prefixes) and variable not in known:
            raise Refused("config.unknown_key", f"environment: {variable}: no such key")


def _check_whole(path: Path, config: Config) -> None:
    """What concerns several keys."""
    if config.consensus.view_timeout_max_ms < config.consensus.view_timeout_ms:
        raise Refused(
            "config.invalid_value",
            f"{path}: [consensus] view_timeout_max_ms: expected at least view_timeout_ms, "
            f"{config.consensus.view_timeout_ms}",
        )
    if bool(config.rpc.tls_certificate) != bool(config.rpc.tls_key):
        raise Refused(
            "config.invalid_value", f"{path}: [rpc] tls_certificate and tls_key: expected both, or neither"
        )


def _without_repetition(path: Path, peers: list[Peer]) -> list[Peer]:
    """One entry per key, PEERS_MAX in all; two that contradict each other are refused."""
    by_key: dict[bytes, Peer] = {}
    for peer in peers:
        known = by_key.setdefault(peer.key, peer)
        if known.address != peer.address:
            raise Refused(
                "config.invalid_value",
                f"{path}: [p2p] peers: {peer.key.hex()[:16]}… has two addresses, {known.address} and {peer.address}",
            )
    if len(by_key) > PEERS_MAX:
        raise Refused(
            "config.invalid_value",
            f"{path}: [p2p] peers and the peers file: {len(by_key)} nodes; expected at most {PEERS_MAX}",
        )
    return list(by_key.values())


def _peer_lines(peer: Peer) -> list[str]:
    lines = [f'key = "{peer.key.hex()}"', f"address = {_toml(peer.address)}"]
    return [*lines, f"name = {_toml(peer.name)}"] if peer.name else lines


def _section_lines(kind: type[Section], given: Mapping[str, Any]) -> list[str]:
    hints = get_type_hints(kind, include_extras=True)
    lines: list[str] = []
    for field in msgspec.structs.fields(kind):
        if field.name == "peers":
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        lines.append(f"# {_description(hints[field.name])}")
        if field.name in given:
            lines.append(f"{field.name} = {_toml(given[field.name])}")
        else:
            lines.append(f"# {field.name} = {_toml(default)}")
    return lines


def _description(hint: Any) -> str:
    """The key's sentence and bounds, from all its annotations."""
    sentence, low, high = "", None, None
    for meta in getattr(hint, "__metadata__", ()):
        sentence = meta.description or sentence
        low = meta.ge if meta.ge is not None else low
        high = meta.le if meta.le is not None else high
    if low is not None and high is not None:
        return f"{sentence} {low} to {high}."
    return sentence if low is None else f"{sentence} At least {low}."


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    raise TypeError(f"no TOML form for {type(value).__name__}")

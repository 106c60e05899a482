from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client.rpc_values import Hex32
from consilium.ledger.errors import Refused
from consilium.node.config import (
    Peer,
    load_config,
    read_peers,
    read_ports,
    write_config,
    write_peers,
    write_ports,
)
from consilium.node.config_sections import PEERS_MAX, SECTIONS, host_and_port

KEY = "ab" * 32
PEER = Peer(key=Hex32(bytes(32)), address="node-b:9000", name="B")


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(code: str, path: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(Refused) as found:
        load_config(path, environment or {})
    assert found.value.code == code
    return found.value.detail


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ""), {})
    assert config.rpc.host == config.p2p.host == "127.0.0.1"
    assert config.rpc.port == config.p2p.port == 0
    assert config.node.role == "validator"
    assert config.data_dir == tmp_path / "data"
    assert config.key_path == tmp_path / "node.key"
    assert config.genesis_path == tmp_path / "genesis.json"
    assert config.token_path == tmp_path / "rpc.token"


def test_paths_start_at_the_files_folder_or_are_absolute(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, '[node]\ndata_dir = "x/y"\nkey_file = "/run/secrets/key"\n'), {})
    assert config.data_dir == tmp_path / "x/y"
    assert config.key_path == Path("/run/secrets/key")
    tls = load_config(write(tmp_path, '[rpc]\ntls_certificate = "c.pem"\ntls_key = "/k.pem"\n'), {}).rpc
    assert (tls.tls_certificate, tls.tls_key) == (str(tmp_path / "c.pem"), "/k.pem")


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[rpc]\nport = 1\nhosts = ["a"]\n[node]\nname = "A"\n')
    environment = {
        "CONSILIUM_RPC_PORT": "2",
        "CONSILIUM_RPC_HOSTS": "b, c,",
        "CONSILIUM_NODE_ROLE": "observer",
        "CONSILIUM_TEST_DATA": "ours, but no section's",
        "RPC_PORT": "3",
    }
    config = load_config(path, environment)
    assert (config.rpc.port, config.rpc.hosts) == (2, ["b", "c"])
    assert (config.node.role, config.node.name) == ("observer", "A")


@pytest.mark.parametrize(
    ("text", "code", "parts"),
    [
        ("\n[rpc\nport = 1", "config.malformed", ["line 2"]),
        ("rpc = 1", "config.invalid_value", ["rpc", "[rpc]"]),
        ("[rcp]", "config.unknown_key", ["rcp", "[rpc]"]),
        ("[rpc]\nprot = 1", "config.unknown_key", ["[rpc] prot", "port"]),
        ("[rpc]\nport = 65536", "config.invalid_value", ["[rpc] port", "<= 65535"]),
        ("[rpc]\nport = -1", "config.invalid_value", ["[rpc] port", ">= 0"]),
        ('[rpc]\nport = "1"', "config.invalid_value", ["[rpc] port", "Expected `int`, got `str`"]),
        ("[rpc]\nport = 1.0", "config.invalid_value", ["[rpc] port"]),
        ("[rpc]\nport = true", "config.invalid_value", ["[rpc] port"]),
        ("[rpc]\nhosts = [1]", "config.invalid_value", ["[rpc] hosts[0]", "`str`"]),
        ('[node]\nrole = "king"', "config.invalid_value", ["[node] role", "king"]),
        ('[node]\nname = ""', "config.invalid_value", ["[node] name"]),
        ('[log]\nlevel = "loud"', "config.invalid_value", ["[log] level"]),
        ('[rpc]\ntls_certificate = "x"', "config.invalid_value", ["tls_key", "both"]),
        (
            "[consensus]\nview_timeout_ms = 5000\nview_timeout_max_ms = 4000",
            "config.invalid_value",
            ["at least"],
        ),
        (
            '[[p2p.peers]]\nkey = "ab"\naddress = "a:1"',
            "config.invalid_value",
            ["peers[0].key", "64 lower-case"],
        ),
        (f'[[p2p.peers]]\nkey = "{KEY}"\naddress = "a"', "config.invalid_value", ["peers[0]", "host:port"]),
        (f'[[p2p.peers]]\nkey = "{KEY}"', "config.invalid_value", ["peers[0]", "`address`"]),
        (
            f'[[p2p.peers]]\nkey = "{KEY}"\naddress = "a:1"\n[[p2p.peers]]\nkey = "{KEY}"\naddress = "a:2"',
            "config.invalid_value",
            ["two addresses", "a:1", "a:2"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_file_key_and_expectation(
    tmp_path: Path, text: str, code: str, parts: list[str]
) -> None:
    detail = refused(code, write(tmp_path, text))
    for part in ["node.toml", *parts]:
        assert part in detail


@pytest.mark.parametrize(
    ("variable", "value", "code", "part"),
    [
        ("CONSILIUM_RPC_PRT", "1", "config.unknown_key", "CONSILIUM_RPC_PRT"),
        ("CONSILIUM_RPC_PORT", "many", "config.invalid_value", "CONSILIUM_RPC_PORT"),
        ("CONSILIUM_RPC_PORT", "70000", "config.invalid_value", "<= 65535"),
        ("CONSILIUM_LOG_FORMAT", "xml", "config.invalid_value", "CONSILIUM_LOG_FORMAT"),
        ("CONSILIUM_P2P_PEERS", "a:1", "config.unknown_key", "CONSILIUM_P2P_PEERS"),
    ],
)
def test_the_environment_is_held_to_the_same_bounds(
    tmp_path: Path, variable: str, value: str, code: str, part: str
) -> None:
    assert part in refused(code, write(tmp_path, ""), {variable: value})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "node.toml" in refused("config.missing", tmp_path / "node.toml")
    assert "node.toml" in refused("config.unreadable", write(tmp_path, "") / "x" / "node.toml")
    (tmp_path / "folder").mkdir()
    refused("config.unreadable", tmp_path / "folder")
    (tmp_path / "node.toml").write_bytes(b"\xff")
    assert "offset 0" in refused("config.malformed", tmp_path / "node.toml")
    (tmp_path / "node.toml").write_bytes(b"#" * (256 * 1024 + 1))
    refused("config.malformed", tmp_path / "node.toml")


def test_both_places_together_have_room_for_so_many_peers(tmp_path: Path) -> None:
    path = write(tmp_path, f'[[p2p.peers]]\nkey = "{KEY}"\naddress = "[::1]:7"\n')
    many = [Peer(key=Hex32(number.to_bytes(32, "big")), address="a:1") for number in range(PEERS_MAX)]
    write_peers(tmp_path / "peers.toml", many[1:])
    assert len(load_config(path, {}).p2p.peers) == PEERS_MAX
    write_peers(tmp_path / "peers.toml", many)
    assert str(PEERS_MAX) in refused("config.invalid_value", path)


def test_peers_come_from_the_table_and_from_their_own_file(tmp_path: Path) -> None:
    path = write(tmp_path, f'[[p2p.peers]]\nkey = "{KEY}"\naddress = "[::1]:7"\n')
    write_peers(tmp_path / "peers.toml", [PEER, Peer(key=Hex32.parse(KEY), address="[::1]:7")])
    assert read_peers(tmp_path / "peers.toml")[0] == PEER
    peers = load_config(path, {}).p2p.peers
    assert [(one.key.hex(), one.host, one.port, one.name) for one in peers] == [
        (KEY, "::1", 7, ""),
        ("00" * 32, "node-b", 9000, "B"),
    ]
    (tmp_path / "peers.toml").write_text("[[pears]]\n")
    assert "peers.toml" in refused("config.unknown_key", path)


def test_a_written_file_loads_as_what_was_given_and_shows_every_key(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    given_values: dict[str, dict[str, Any]] = {
        "node": {"name": 'Clinic "A" \\ \x7f é', "role": "observer"},
        "rpc": {"port": 8_000, "hosts": ["a", "b"]},
    }
    write_config(path, given_values, [PEER])
    config = load_config(path, {})
    assert config.node.name == 'Clinic "A" \\ \x7f é'
    assert (config.rpc.port, config.rpc.hosts) == (8_000, ["a", "b"])
    assert config.p2p.peers == [PEER]
    text = path.read_text(encoding="utf-8")
    for name, kind in SECTIONS.items():
        assert f"\n[{name}]\n" in text
        for field in kind.__struct_fields__:
            assert field == "peers" or f"{field} = " in text
    with pytest.raises(FileExistsError):
        write_config(path, {})


def test_the_defaults_that_a_written_file_shows_are_the_defaults(tmp_path: Path) -> None:
    write_config(tmp_path / "node.toml", {})
    text = (tmp_path / "node.toml").read_text(encoding="utf-8")
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in text.splitlines()
    )
    assert {name: {} for name in SECTIONS} == tomllib.loads(text)
    uncommented = tmp_path / "shown.toml"
    uncommented.write_text(shown, encoding="utf-8")
    assert load_config(uncommented, {}) == load_config(write(tmp_path, ""), {})


def test_what_would_not_load_is_not_written(tmp_path: Path) -> None:
    unfit: list[dict[str, dict[str, Any]]] = [{"rpc": {"port": -1}}, {"rcp": {}}, {"rpc": {"prot": 1}}]
    for values in unfit:
        with pytest.raises(Refused):
            write_config(tmp_path / "node.toml", values)
    assert list(tmp_path.iterdir()) == []


def test_ports_are_written_for_others_to_read(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ""), {})
    with pytest.raises(Refused, match=r"config\.missing"):
        read_ports(config.ports_path)
    config.data_dir.mkdir()
    write_ports(config, {"p2p": 1, "rpc": 65_535})
    write_ports(config, {"p2p": 2, "rpc": 3})
    assert read_ports(config.ports_path) == {"p2p": 2, "rpc": 3}
    assert [one.name for one in config.data_dir.iterdir()] == ["ports.json"]
    config.ports_path.write_text('{"p2p": 70000}')
    with pytest.raises(Refused, match=r"config\.malformed"):
        read_ports(config.ports_path)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:99999", "a:1:2", "::1:5", "[::1]", "a b:1", "a:1\n", "[x]:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        host_and_port(text)


@given(st.text(max_size=64).filter(lambda text: text.isprintable() or "\n" in text))
def test_any_name_survives_the_file(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.toml"
        if name:
            write_config(path, {"node": {"name": name}})
            assert load_config(path, {}).node.name == name
        else:
            with pytest.raises(Refused, match=r"config\.invalid_value"):
                write_config(path, {"node": {"name": name}})

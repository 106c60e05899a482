"""Who gets through a handshake on a real socket, and who does not."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import PeerFault
from consilium.p2p import tls
from consilium.p2p.tls import Credentials

GOLDEN = Path(__file__).parents[2] / "golden" / "p2p" / "certificates.json"
SERVER, CLIENT, OTHER, STRANGER = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
TIMEOUT_S = 10.0


async def meet(
    server: ssl.SSLContext | None, client: ssl.SSLContext | None
) -> tuple[bytes | Exception, bytes | Exception]:
    """Connect; whom each side met, or why it met nobody. None is a side that speaks no TLS."""
    met: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if server is not None:
                await writer.start_tls(server, ssl_handshake_timeout=TIMEOUT_S)
            key = tls.peer_key(writer.get_extra_info("ssl_object"))
            writer.write(b"!")
            await writer.drain()
            met.set_result(key)
        except (OSError, PeerFault) as error:
            met.set_result(error)
        finally:
            writer.close()

    async with asyncio.timeout(TIMEOUT_S), await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        writer = None
        saw: bytes | Exception
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="" if client else None
            )
            if client is None:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.readexactly(1)  # in TLS 1.3 a client learns only now that it was refused
            saw = tls.peer_key(writer.get_extra_info("ssl_object"))
        except (OSError, EOFError, PeerFault) as error:
            saw = error
        finally:
            if writer is not None:
                writer.close()
        return await met, saw


def context(
    protocol: int,
    certificate: bytes,
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    path: Path,
    trusts: list[bytes],
) -> ssl.SSLContext:
    """A context that shows any certificate, for attackers."""
    made = ssl.SSLContext(protocol)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=b"".join(tls.anchor_certificate(key) for key in trusts))
    file = path / "shown.pem"
    file.write_bytes(
        ssl.DER_cert_to_PEM_cert(certificate).encode()
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    made.load_cert_chain(file)
    return made


def private(key: SigningKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.seed)


def minted(
    *,
    issuer: SigningKey,
    signer: SigningKey,
    carried: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    not_before: datetime.datetime = tls.NOT_BEFORE,
    not_after: datetime.datetime = tls.NOT_AFTER,
) -> bytes:
    """A leaf that says it comes from `issuer`, is signed by `signer`, and carries any key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(tls.node_name(issuer.public))
        .public_key(carried.public_key())
        .serial_number(7)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    return builder.sign(private(signer), None).public_bytes(Encoding.DER)


async def test_members_meet_and_know_each_other() -> None:
    server = Credentials(SERVER).server_context([OTHER.public, CLIENT.public])
    client = Credentials(CLIENT).client_context(SERVER.public)
    assert await meet(server, client) == (CLIENT.public, SERVER.public)


async def test_a_stranger_is_refused_by_the_server() -> None:
    server = Credentials(SERVER).server_context([CLIENT.public, OTHER.public])
    met, saw = await meet(server, Credentials(STRANGER).client_context(SERVER.public))
    assert isinstance(met, ssl.SSLCertVerificationError)
    assert isinstance(saw, Exception)


async def test_a_member_who_answers_for_another_is_refused_by_the_client() -> None:
    server = Credentials(OTHER).server_context([CLIENT.public])
    met, saw = await meet(server, Credentials(CLIENT).client_context(SERVER.public))
    assert isinstance(saw, ssl.SSLCertVerificationError)
    assert isinstance(met, Exception)


async def test_nobody_is_trusted_where_there_are_no_members() -> None:
    server = Credentials(SERVER).server_context([])
    met, _ = await meet(server, Credentials(CLIENT).client_context(SERVER.public))
    assert isinstance(met, ssl.SSLError)


async def test_no_certificate_is_refused() -> None:
    server = Credentials(SERVER).server_context([CLIENT.public])
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    met, _ = await meet(server, bare)
    assert isinstance(met, ssl.SSLError)


async def test_a_certificate_in_anothers_name_is_refused(tmp_path: Path) -> None:
    forged = minted(issuer=CLIENT, signer=OTHER, carried=private(OTHER))
    server = Credentials(SERVER).server_context([CLIENT.public, OTHER.public])
    shown = context(ssl.PROTOCOL_TLS_CLIENT, forged, private(OTHER), tmp_path, [SERVER.public])
    met, _ = await meet(server, shown)
    assert isinstance(met, ssl.SSLCertVerificationError)


async def test_who_a_member_minted_is_seen_as_who_they_are(tmp_path: Path) -> None:
    """OpenSSL lets it through: the member is an anchor. The key that comes out is the stranger's, no
    member's.
    """
    vouched = minted(issuer=OTHER, signer=OTHER, carried=private(STRANGER))
    server = Credentials(SERVER).server_context([CLIENT.public, OTHER.public])
    shown = context(ssl.PROTOCOL_TLS_CLIENT, vouched, private(STRANGER), tmp_path, [SERVER.public])
    met, _ = await meet(server, shown)
    assert met == STRANGER.public


async def test_a_minted_key_that_is_not_ed25519_is_refused(tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    vouched = minted(issuer=OTHER, signer=OTHER, carried=curve)
    server = Credentials(SERVER).server_context([OTHER.public])
    shown = context(ssl.PROTOCOL_TLS_CLIENT, vouched, curve, tmp_path, [SERVER.public])
    met, _ = await meet(server, shown)
    assert isinstance(met, PeerFault)
    assert "not Ed25519" in met.reason


@pytest.mark.parametrize("side", ["expired", "not yet"])
async def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, side: str) -> None:
    year = 2001 if side == "expired" else 2300
    leaf = minted(
        issuer=CLIENT,
        signer=CLIENT,
        carried=private(CLIENT),
        not_before=datetime.datetime(year, 1, 1, tzinfo=datetime.UTC),
        not_after=datetime.datetime(year, 2, 1, tzinfo=datetime.UTC),
    )
    server = Credentials(SERVER).server_context([CLIENT.public])
    shown = context(ssl.PROTOCOL_TLS_CLIENT, leaf, private(CLIENT), tmp_path, [SERVER.public])
    met, _ = await meet(server, shown)
    assert isinstance(met, ssl.SSLCertVerificationError)


async def test_a_chain_through_an_authority_of_a_members_making_is_refused(tmp_path: Path) -> None:
    """Path length 0: a member issues leaves (which are judged by their key), never authorities."""
    middle_key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "middle")])
    middle = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(tls.node_name(OTHER.public))
        .public_key(middle_key.public_key())
        .serial_number(8)
        .not_valid_before(tls.NOT_BEFORE)
        .not_valid_after(tls.NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private(OTHER), None)
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(name)
        .public_key(private(STRANGER).public_key())
        .serial_number(9)
        .not_valid_before(tls.NOT_BEFORE)
        .not_valid_after(tls.NOT_AFTER)
        .sign(middle_key, None)
    )
    shown = context(
        ssl.PROTOCOL_TLS_CLIENT, leaf.public_bytes(Encoding.DER), private(STRANGER), tmp_path, [SERVER.public]
    )
    file = tmp_path / "chain.pem"
    file.write_bytes(
        leaf.public_bytes(Encoding.PEM)
        + middle.public_bytes(Encoding.PEM)
        + private(STRANGER).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    shown.load_cert_chain(file)
    met, _ = await meet(Credentials(SERVER).server_context([OTHER.public]), shown)
    assert isinstance(met, ssl.SSLCertVerificationError)


async def test_tls_1_2_is_refused_by_both_sides(tmp_path: Path) -> None:
    def old(protocol: int, key: SigningKey, trusts: SigningKey) -> ssl.SSLContext:
        made = context(protocol, tls.leaf_certificate(key), private(key), tmp_path, [trusts.public])
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        return made

    server = Credentials(SERVER).server_context([CLIENT.public])
    met, _ = await meet(server, old(ssl.PROTOCOL_TLS_CLIENT, CLIENT, SERVER))
    assert isinstance(met, ssl.SSLError)
    _, saw = await meet(
        old(ssl.PROTOCOL_TLS_SERVER, SERVER, CLIENT), Credentials(CLIENT).client_context(SERVER.public)
    )
    assert isinstance(saw, OSError)


async def test_plain_tcp_is_refused_by_both_sides() -> None:
    met, _ = await meet(Credentials(SERVER).server_context([CLIENT.public]), None)
    assert isinstance(met, ssl.SSLError)
    met, saw = await meet(None, Credentials(CLIENT).client_context(SERVER.public))
    assert isinstance(saw, OSError)
    assert isinstance(met, PeerFault)


async def test_no_session_is_ever_resumed() -> None:
    server = Credentials(SERVER).server_context([CLIENT.public])
    assert server.num_tickets == 0
    assert server.minimum_version is server.maximum_version is ssl.TLSVersion.TLSv1_3


def test_certificates_are_functions_of_the_key() -> None:
    for case in json.loads(GOLDEN.read_text()):
        key = SigningKey(bytes.fromhex(case["seed"]))
        assert tls.leaf_certificate(key).hex() == case["leaf"]
        assert tls.anchor_certificate(key.public).hex() == case["anchor"]
        assert tls.certificate_key(bytes.fromhex(case["leaf"])) == key.public


def test_an_anchor_needs_the_public_key_only() -> None:
    anchor = x509.load_der_x509_certificate(tls.anchor_certificate(CLIENT.public))
    constraints = anchor.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert anchor.subject == tls.node_name(CLIENT.public)
    with pytest.raises(ValueError, match="32"):
        tls.anchor_certificate(b"short")


@pytest.mark.parametrize("raw", [b"", b"garbage", bytes(5_000)])
def test_certificates_that_are_none(raw: bytes) -> None:
    with pytest.raises(PeerFault):
        tls.certificate_key(raw)


def test_a_certificate_of_an_unknown_algorithm() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(curve.public_key())
        .serial_number(1)
        .not_valid_before(tls.NOT_BEFORE)
        .not_valid_after(tls.NOT_AFTER)
        .sign(curve, hashes.SHA256())
    )
    raw = made.public_bytes(Encoding.DER)
    # 1.2.840.10045.2.1 (an EC key) becomes 1.2.840.10045.2.9 (nothing)
    bent = raw.replace(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"))
    assert bent != raw
    with pytest.raises(PeerFault):
        tls.certificate_key(bent)


def test_the_private_key_touches_a_disk_only_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    with tls._key_file(private(CLIENT), b"") as (path, password):
        assert password is None
        assert path.startswith("/proc/self/fd/")
        assert os.readlink(path).startswith("/memfd:")
    monkeypatch.delattr(os, "memfd_create")
    with tls._key_file(private(CLIENT), b"") as (path, password):
        assert password is not None
        assert b"ENCRYPTED" in Path(path).read_bytes()
        assert password not in Path(path).read_bytes()
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert not Path(path).exists()
    assert Credentials(CLIENT).client_context(SERVER.public).get_ca_certs(binary_form=True) == [
        tls.anchor_certificate(SERVER.public)
    ]

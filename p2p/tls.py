"""Mutual TLS 1.3 between keys: who is at the other end is an Ed25519 key, and nothing else.

There is no authority. A node's certificate is made by the node, from its own key, and says only that key.
Python's `ssl` has no verification callback, and OpenSSL trusts nothing without an anchor; so each side makes
the anchor itself, out of the public key that it expects: subject = node id, CA:TRUE, path length 0. OpenSSL
never checks an anchor's own signature, so any key may sign it. The peer's leaf names the node id as its
issuer, and is signed by and carries that same key. The chain leaf -> anchor then holds exactly for who has
the private key.

A member may thus issue leaves for other keys, and OpenSSL would accept them: it is an anchor. That is why the
leaf's key itself is compared after the handshake (`peer_key`), with the list of members as it is at that
moment. Names in certificates are never believed. A leaf for somebody else's public key helps nobody: TLS 1.3
proves possession of the leaf's private key.

Certificates are functions of the key alone: no clock, no random. They hold from 1970 to the end of time as
RFC 5280 section 4.1.2.5 writes it (9999-12-31); membership ends by governance, not by a calendar, and a node
with a wrong clock stays reachable. `num_tickets = 0`: a resumed session would skip certificates, and outlive
a membership.

Sources: RFC 8446 (TLS 1.3), RFC 8410 (Ed25519 in X.509), RFC 5280 section 6.1 (path validation; the anchor's
signature is no part of it) and section 4.2.1.9 (path length).
"""

from __future__ import annotations

import datetime
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consilium.ledger.crypto import KEY_BYTES, SEED_BYTES, SigningKey, Tag
from consilium.ledger.errors import PeerFault

CERTIFICATE_BYTES_MAX: Final = 4_096
SERIAL_BYTES: Final = 16
NOT_BEFORE: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
ORGANIZATION: Final = "Consilium node"
"""In the leaf's subject only: an issuer's name must differ from the subject's, or OpenSSL takes the leaf for
an anchor.
"""

_SERIAL = Tag("consilium.p2p.certificate.serial")
# An anchor must be signed by somebody for the encoder's sake. Nobody checks it: RFC 5280 section 6.1.1 (d).
_ANCHOR_SIGNER: Final = Ed25519PrivateKey.from_private_bytes(bytes(SEED_BYTES))


def node_name(key: bytes) -> x509.Name:
    """The subject of a node's anchor: its key in hex, which is the 64 characters that a common name may have."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.hex())])


def anchor_certificate(key: bytes) -> bytes:
    """The trust anchor (DER) made from a raw 32-byte Ed25519 public key alone. ValueError when it is no key."""
    name = node_name(key)
    builder = (
        _builder(subject=name, issuer=name, key=key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
    )
    return builder.sign(_ANCHOR_SIGNER, None).public_bytes(Encoding.DER)


def leaf_certificate(key: SigningKey) -> bytes:
    """The certificate (DER) that a node shows: issued by its own name, for and with its own key."""
    issuer = node_name(key.public)
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION), *issuer])
    builder = (
        _builder(subject=subject, issuer=issuer, key=key.public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
    )
    return builder.sign(Ed25519PrivateKey.from_private_bytes(key.seed), None).public_bytes(Encoding.DER)


def certificate_key(certificate: bytes) -> bytes:
    """The raw 32-byte Ed25519 key in a certificate (DER). PeerFault when there is none."""
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise PeerFault(f"a certificate of {len(certificate)} bytes; the limit is {CERTIFICATE_BYTES_MAX}")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise PeerFault("a certificate that does not parse") from None
    if not isinstance(key, Ed25519PublicKey):
        raise PeerFault("a certificate whose key is not Ed25519")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def peer_key(connection: ssl.SSLObject | ssl.SSLSocket | None) -> bytes:
    """The key of who is at the other end of a finished handshake. PeerFault unless it is TLS 1.3 with an
    Ed25519 leaf.

    The caller compares it with the members as they are now: until then the peer is nobody.
    """
    if connection is None or connection.version() != "TLSv1.3":
        raise PeerFault("the connection is not TLS 1.3")
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        raise PeerFault("the peer showed no certificate")
    return certificate_key(certificate)


class Credentials:
    """What a node shows, and contexts that trust given keys.

    A context is never changed once it is made: when members change, new ones are made (a millisecond or two
    each).
    """

    def __init__(self, key: SigningKey) -> None:
        self._chain = _pem(leaf_certificate(key))
        self._private = Ed25519PrivateKey.from_private_bytes(key.seed)

    def server_context(self, keys: Iterable[bytes]) -> ssl.SSLContext:
        """For accepting: demands a certificate, and trusts the anchors of these keys."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, keys)
        context.num_tickets = 0
        return context

    def client_context(self, key: bytes) -> ssl.SSLContext:
        """For dialling one peer: trusts the anchor of this key only."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, (key,))

    def _context(self, protocol: int, keys: Iterable[bytes]) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.check_hostname = False  # the key is the name
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        anchors = b"".join([anchor_certificate(key) for key in keys])
        if anchors:
            context.load_verify_locations(cadata=anchors)
        with _key_file(self._private, self._chain) as (path, password):
            context.load_cert_chain(path, password=password)
        return context


@contextmanager
def _key_file(private: Ed25519PrivateKey, chain: bytes) -> Iterator[tuple[str, bytes | None]]:
    """A path that `load_cert_chain` can read, for as long as the block lasts: it takes no key from memory.

    On Linux the file is anonymous memory that only this process can name. Elsewhere it is a file of mode 0600
    whose key is encrypted under a random password that never leaves this process, so that even a copy of the
    disk has nothing.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with os.fdopen(os.memfd_create("consilium-tls"), "wb") as file:
            file.write(chain + plain)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}", None
        return
    password = secrets.token_hex(KEY_BYTES).encode("ascii")
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    with tempfile.NamedTemporaryFile(prefix="consilium-tls-") as file:  # created with mode 0600
        file.write(chain + sealed)
        file.flush()
        yield file.name, password


def _builder(*, subject: x509.Name, issuer: x509.Name, key: bytes) -> x509.CertificateBuilder:
    serial = (
        int.from_bytes(_SERIAL.digest(key)[:SERIAL_BYTES], "big") | 1
    )  # positive: RFC 5280 section 4.1.2.2
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(Ed25519PublicKey.from_public_bytes(key))
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode("ascii")

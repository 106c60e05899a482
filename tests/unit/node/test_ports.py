"""A reserved port goes to nobody but the node it is for."""

from __future__ import annotations

import socket

import pytest

from consilium.node.ports import LOOPBACK, SHARES_RESERVED, Reservation, is_free


def test_ports_are_different_and_free() -> None:
    with Reservation(5) as reserved:
        assert len(set(reserved.ports)) == 5
        reserved.yield_to_nodes()
        for port in reserved.ports:
            socket.create_server((LOOPBACK, port)).close()


@pytest.mark.skipif(
    not SHARES_RESERVED, reason="this system does not let a node listen on a port that is held"
)
def test_a_held_port_is_not_given_to_a_connection() -> None:
    with Reservation(1) as reserved, socket.create_server((LOOPBACK, 0)) as server:
        with socket.socket() as dialling, pytest.raises(OSError, match="in use"):
            dialling.bind((LOOPBACK, reserved.ports[0]))
        # A node that stopped listening for a while finds its port again, although somebody dialled it meanwhile.
        with socket.socket() as refused:
            assert refused.connect_ex((LOOPBACK, reserved.ports[0])) != 0
        with socket.create_server((LOOPBACK, reserved.ports[0])) as node:
            assert node.getsockname()[1] == reserved.ports[0]
        assert server.getsockname()[1] != reserved.ports[0]


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(LOOPBACK, port)
    assert is_free(LOOPBACK, port)


def test_releasing_twice_is_no_error() -> None:
    reserved = Reservation(1)
    reserved.release()
    reserved.release()

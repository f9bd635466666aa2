"""Ports: no two runs or workers are given the same one, and servers can listen on what they are given."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from reattach.fixtures.port_distributor import PortDistributor
from reattach.fixtures.ports import HOST

MANY = 150


@pytest.fixture
def ports() -> Iterator[PortDistributor]:
    distributor = PortDistributor()
    yield distributor
    distributor.close()


def test_two_runs_share_no_port(ports: PortDistributor) -> None:
    code = (
        "import sys\n"
        "from reattach.fixtures.ports import PortDistributor\n"
        "ports = PortDistributor()\n"
        f"print(*[ports.get_port() for _ in range({MANY})], flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        mine = {ports.get_port() for _ in range(MANY)}
        other.stdin.close()
    assert len(theirs) == len(mine) == MANY
    assert not theirs & mine


def test_server_can_listen_and_come_back(ports: PortDistributor) -> None:
    port = ports.get_port()
    for _ in range(2):
        with socket.create_server((HOST, port)) as server:
            with socket.create_connection((HOST, port)) as client, server.accept()[0]:
                assert client.getpeername() == (HOST, port)
            assert ports.get_port() != port


def test_only_unused_ports_come_again() -> None:
    ports = PortDistributor(port_number=3)
    with ExitStack() as stack:
        stack.callback(ports.close)
        used, unused, also_used = (ports.get_port() for _ in range(3))
        servers = [stack.enter_context(socket.create_server((HOST, port))) for port in (used, also_used)]
        assert {ports.get_port() for _ in range(4)} == {unused}
        servers.append(stack.enter_context(socket.create_server((HOST, unused))))
        with pytest.raises(RuntimeError, match="all 3 ports are in use"):
            ports.get_port()


def test_replacement_is_always_the_same(ports: PortDistributor) -> None:
    new = ports.replace_with_new_port(1234)
    assert new != 1234
    assert ports.replace_with_new_port(1234) == new
    assert ports.replace_with_new_port("localhost:1234") == f"localhost:{new}"
    assert ports.replace_with_new_port("http://localhost:1234/x?y") == f"http://localhost:{new}/x?y"
    assert ports.replace_with_new_port("http://localhost:1235") != f"http://localhost:{new}"
    with pytest.raises(ValueError, match="not an address with one port: 'localhost'"):
        ports.replace_with_new_port("localhost")

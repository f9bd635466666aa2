"""What a client sees through an HTTP proxy: nothing, until a step is set; then the network's own faults."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from reattach.api.effects import Front, Phase
from reattach.api.history import Read
from test_runner.unit.witness.proxied import SECONDS, ProxiedWorld
from test_runner.unit.witness.upstream import Exchange, Upstream

BEFORE, AFTER = Phase.BEFORE, Phase.AFTER


def echo(exchange: Exchange, body: bytes) -> None:
    exchange.answer(200, json.dumps({"length": len(body)}).encode(), "application/json")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(echo) as server:
        yield server


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[ProxiedWorld]:
    with ProxiedWorld(tmp_path) as world:
        yield world


@pytest.fixture
def url(witness: ProxiedWorld, upstream: Upstream) -> str:
    return f"http://127.0.0.1:{witness.listen(Front.HTTP, upstream.port)}"


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def raw(port: int, text: bytes) -> bytes:
    """All that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.sendall(text)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


class TestRecords:
    def test_effect_and_read(self, witness: ProxiedWorld, url: str, client: requests.Session) -> None:
        client.put(f"{url}/v1/tenant/7?lazy=1", json={"a": 1}, headers={"Authorization": "Bearer s3cret"})
        client.get(f"{url}/v1/tenant/7")
        witness.wait_outcomes(("put /v1/tenant/* #1".replace("/v1", "/v*"), "performed 200, answered 200"))
        (effect,) = witness.history().effects()
        assert effect.arrived.request == {
            "method": "PUT",
            "path": "/v1/tenant/7",
            "query": "lazy=1",
            "body": {"a": 1},
        }
        assert effect.performed is not None
        assert effect.performed.answer == {"body": {"length": 8}}
        (read,) = [line for line in witness.history().lines if isinstance(line, Read)]
        assert (read.name, read.status) == ("loader > db: get /v*/tenant/*", 200)
        assert b"s3cret" not in witness.path.read_bytes()

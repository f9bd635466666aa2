"""A world of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from test_runner.unit.witness.proxied import ProxiedWorld


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[ProxiedWorld]:
    """An empty world."""
    with ProxiedWorld(tmp_path) as world:
        yield world

"""Clouds of one real storage controller and fake pageservers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.processes import Launcher
from test_runner.regress.storage_controller.cloud import Cloud

MakeCloud = Callable[..., Cloud]


@pytest.fixture
def make_cloud(
    launcher: Launcher,
    port_distributor: PortDistributor,
    database_server: DatabaseServer,
    neon_binpath: Path,
    test_output_dir: Path,
) -> Iterator[MakeCloud]:
    """Starts a cloud; arguments as for `Cloud`. What must never have happened is checked at the end."""
    with ExitStack() as stack:

        def make(**options: object) -> Cloud:
            database = database_server.create_database()
            stack.callback(database_server.drop_database, database.name)
            cloud = Cloud(
                launcher,
                port_distributor,
                database,
                neon_binpath / "storage_controller",
                test_output_dir,
                **options,  # type: ignore[arg-type]
            )
            stack.callback(_assert_nothing_forbidden, cloud)
            return stack.enter_context(cloud)

        yield make


def _assert_nothing_forbidden(cloud: Cloud) -> None:
    assert cloud.violations == []
    assert [error for node in cloud.nodes for error in node.errors] == []


@pytest.fixture
def cloud(make_cloud: MakeCloud) -> Cloud:
    """One pageserver."""
    return make_cloud()

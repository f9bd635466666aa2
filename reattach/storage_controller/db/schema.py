"""Bringing the schema up to date."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.resources import files

from reattach.api.controller_points import Write
from reattach.storage_controller.db.database import Cursor, Database

log = logging.getLogger(__name__)

_LOCK = 0x72656174
"""Key of the advisory lock: two controllers that start at once must not both migrate."""


class SchemaTooNew(Exception):
    """A newer release has migrated this database."""


def migrations() -> Iterator[tuple[int, str]]:
    """Number and SQL text of every migration, in order."""
    folder = files("reattach.storage_controller") / "migrations"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            yield int(file.name.partition("_")[0]), file.read_text()


async def migrate(db: Database) -> None:
    """Applies what is missing, in one transaction. Raises SchemaTooNew."""
    known = list(migrations())

    async def body(cursor: Cursor) -> int:
        # Whoever waits for the lock must then see what its holder did.
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        await cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        await cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL AS present")
        row = await cursor.fetchone()
        version = 0
        if row is not None and row.present:
            await cursor.execute("SELECT coalesce(max(version), 0) AS version FROM schema_migrations")
            row = await cursor.fetchone()
            version = 0 if row is None else row.version
        if version > known[-1][0]:
            raise SchemaTooNew(f"the database has schema {version}, this release knows up to {known[-1][0]}")
        pending = [(number, sql) for number, sql in known if number > version]
        if pending:
            steps = [
                "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,"
                " applied_at timestamptz NOT NULL DEFAULT now())"
            ]
            for number, sql in pending:
                steps += [sql, f"INSERT INTO schema_migrations (version) VALUES ({number})"]
            await cursor.execute(";\n".join(steps))
        return len(pending)

    applied = await db.write(Write.MIGRATE_SCHEMA, body)
    if applied:
        log.info("Applied %d migrations", applied)

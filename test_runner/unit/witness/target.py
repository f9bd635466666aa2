"""A database behind a proxy."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict


@dataclass
class Target:
    """A database with a table `t (a int primary key)`, directly and through the proxy."""

    dsn: str
    proxied: str

    @property
    def port(self) -> int:
        return int(str(conninfo_to_dict(self.dsn)["port"]))

    def others(self) -> int:
        """Sessions but this one."""
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()
            assert found is not None
            return int(found[0])

    def rows(self) -> list[int]:
        with psycopg.connect(self.dsn) as connection:
            return [int(a) for (a,) in connection.execute("select a from t order by a")]

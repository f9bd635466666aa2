"""How to connect: as the URL says, whatever the environment and the server's settings say."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row
from psycopg.types.string import TextLoader

log = logging.getLogger(__name__)

# What transactions need, and what a role, a database or a server may have been set to that would change what
# statements mean or how long their effects last.
_SESSION = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # A sequential scan locks its whole table against concurrent writers of other rows.
    "enable_seqscan": "off",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
    # A generation must not be used before it cannot be lost any more.
    "synchronous_commit": "on",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
}
_DEFAULT_SCHEMA = "-c search_path=public"


def forget_libpq_variables(environ: MutableMapping[str, str]) -> None:
    """Removes `PGHOST`, `PGSERVICE`, `PGOPTIONS` and all others that libpq would read."""
    names = sorted(name for name in environ if name.startswith("PG"))
    for name in names:
        del environ[name]
    if names:
        log.info("%s: without effect here, the database is what its URL says", ", ".join(names))


def arguments(url: str) -> dict[str, Any]:
    """Of psycopg's connect. Raises ValueError, which does not show it, for what is no URL of PostgreSQL."""
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error:
        raise ValueError("the database URL is neither a URL nor a connection string of PostgreSQL") from None
    settings = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    options = f"{_DEFAULT_SCHEMA} {said.get('options') or ''} {settings}"
    return {
        **said,
        "options": options,
        "client_encoding": "UTF8",
        "connect_timeout": 2,
        "application_name": "storage_controller",
        "row_factory": namedtuple_row,
        "context": _adapters(),
    }


@dataclass(frozen=True)
class _Adapters:
    """psycopg's AdaptContext."""

    adapters: AdaptersMap
    connection: None = None


def _adapters() -> _Adapters:
    """JSON stays text, so that one value that cannot be read does not spoil the other rows of its result."""
    adapters = AdaptersMap(psycopg.adapters)
    for name in ("json", "jsonb"):
        adapters.register_loader(name, TextLoader)
    return _Adapters(adapters)

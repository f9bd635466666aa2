"""Log lines as the field's tools expect them: `{RFC 3339 time}  {LEVEL} {span}: {message}`, to stdout."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

_span: ContextVar[str] = ContextVar("span", default="")

_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) != "\t"} | {ord("\n"): "\\n"}
"""What a client sent must not look like lines of ours."""


@contextmanager
def span(name: str, **fields: object) -> Iterator[None]:
    """Marks every line logged inside, also in tasks started inside, with `name{field=value ...}`."""
    inner = f"{name}{{{' '.join(f'{key}={value}' for key, value in fields.items())}}}" if fields else name
    outer = _span.get()
    token = _span.set(f"{outer}:{inner}" if outer else inner)
    try:
        yield
    finally:
        _span.reset(token)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds = _seconds(int(record.created))
        level = _LEVELS.get(record.levelname, record.levelname)
        message = record.getMessage()
        if not message.isprintable():
            message = message.translate(_CONTROLS)
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        where = _span.get()
        prefix = f"{where}: " if where else ""
        return f"{seconds}.{int(record.msecs * 1000):06d}Z {level:>5} {prefix}{message}"


@lru_cache(maxsize=1)
def _seconds(unix_time: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_time))


def start_logging(level: int = logging.INFO) -> None:
    """Sends the log of this process to stdout, a line at a time."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What no line shows need not be asked of the system, or of the stack, for each of them.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False
    for chatty in ("uvicorn", "asyncio", "botocore", "urllib3", "psycopg"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

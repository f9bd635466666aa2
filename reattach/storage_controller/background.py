"""Tasks that outlive the request that started them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

from reattach.runtime.errors import cause_chain

log = logging.getLogger(__name__)


def panic(what: str, error: BaseException) -> None:
    """Ends the process: a supervisor's restart is safe at any point, going on in an unknown state is not."""
    log.error("%s panicked: %s", what, cause_chain(error), exc_info=error)
    logging.shutdown()
    os._exit(1)


class Background:
    """Starts tasks and ends them all. A task that raises ends the process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            panic(f"task {task.get_name()}", error)

    async def shutdown(self) -> None:
        """Cancels every task and waits for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

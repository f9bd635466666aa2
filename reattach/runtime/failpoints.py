"""Named points at which a test can make the process pause, sleep, fail or die.

The action grammar is that of the `fail` crate: `[<pct>%][<cnt>*]<type>[(arg)][-><next>...]` with the types
off, return, sleep, delay, pause, yield, print and panic, and one more, exit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from reattach.api.nearest import did_you_mean

log = logging.getLogger(__name__)

_TERM = re.compile(
    r"(?:(?P<pct>\d+(?:\.\d+)?)%)?(?:(?P<cnt>\d+)\*)?(?P<kind>[a-z]+)(?:\((?P<arg>.*)\))?", re.DOTALL
)
_KINDS = frozenset({"off", "return", "sleep", "delay", "pause", "yield", "print", "panic", "exit"})


class FailpointPanic(Exception):
    """The failpoint's action was `panic`, or one that its place does not support."""


@dataclass(slots=True)
class Action:
    """One term of a failpoint's actions. `remaining` is None when it may fire without end."""

    kind: str
    arg: str | None
    probability: float = 1.0
    remaining: int | None = None

    def take(self) -> bool:
        """Whether this term applies now; uses up one of its counts if so."""
        if self.remaining == 0 or (self.probability < 1.0 and random.random() >= self.probability):
            return False
        if self.remaining is not None:
            self.remaining -= 1
        return True

    @property
    def milliseconds(self) -> int:
        return int(self.arg or 0)


def parse_actions(text: str) -> list[Action]:
    """Reads an action chain. Raises ValueError."""
    actions = []
    for term in text.split("->"):
        match = _TERM.fullmatch(term.strip())
        if match is None or match["kind"] not in _KINDS:
            raise ValueError(f"failed to parse failpoint action {term.strip()!r}")
        if match["kind"] in ("sleep", "delay") and not (match["arg"] or "").isdigit():
            raise ValueError(f"{match['kind']} takes milliseconds: {term.strip()!r}")
        count = None if match["cnt"] is None else int(match["cnt"])
        actions.append(Action(match["kind"], match["arg"], float(match["pct"] or 100) / 100, count))
    return actions


@dataclass(slots=True)
class _Failpoint:
    actions: list[Action]
    reconfigured: asyncio.Event = field(default_factory=asyncio.Event)


class Failpoints:
    """The failpoints of a process. Those that were never configured cost a dict look-up."""

    def __init__(self) -> None:
        self._points: dict[str, _Failpoint] = {}
        self._names: Collection[str] = ()
        self._is_known: Callable[[str], bool] = lambda _: True

    def know(self, names: Collection[str], is_known: Callable[[str], bool] | None = None) -> None:
        """From now on only these can be configured. is_known: decides if not all of them are in `names`."""
        self._names = names
        self._is_known = is_known or names.__contains__

    def configure(self, name: str, actions: str) -> None:
        """Replaces what happens at `name` and releases whoever is paused there.

        Raises ValueError, also for a name that no place has: a test would wait for nothing.
        """
        if not self._is_known(name):
            raise ValueError(f"there is no failpoint {name!r}{did_you_mean(name, self._names)}")
        parsed = parse_actions(actions)
        log.info("cfg failpoint: %s %s", name, actions)
        previous = self._points.pop(name, None)
        if not all(action.kind == "off" for action in parsed):
            self._points[name] = _Failpoint(parsed)
        if previous is not None:
            previous.reconfigured.set()

    def configure_from_env(self, text: str) -> None:
        """Reads `name=actions;name2=actions2`, the form of the FAILPOINTS variable. Raises ValueError."""
        for entry in filter(None, (part.strip() for part in text.split(";"))):
            name, equals, actions = entry.partition("=")
            if not equals:
                raise ValueError(f"FAILPOINTS entry {entry!r} lacks '='")
            self.configure(name, actions)

    async def hit(self, name: str) -> str | None:
        """Acts as configured. Returns the argument of a `return` ('' if it has none), else None."""
        point = self._points.get(name)
        if point is None:
            return None
        action = next((action for action in point.actions if action.take()), None)
        if action is None:
            return None
        match action.kind:
            case "return":
                return action.arg or ""
            case "sleep":
                await asyncio.sleep(action.milliseconds / 1000)
            case "delay":
                time.sleep(action.milliseconds / 1000)
            case "pause":
                await point.reconfigured.wait()
            case "yield":
                await asyncio.sleep(0)
            case "print":
                log.info("%s", action.arg or f"failpoint {name} executed.")
            case "panic":
                raise FailpointPanic(action.arg or f"failpoint {name} panic")
            case "exit":
                log.info("Exit requested by failpoint %s", name)
                os._exit(1)
        return None

    async def pausable(self, name: str) -> None:
        """A place that tests wait at: logs `at failpoint <name>` whenever reached, configured or not."""
        log.info("at failpoint %s", name)
        if await self.hit(name) is not None:
            raise FailpointPanic(f"failpoint {name}: return is not supported here")

    async def sleep_for_returned_ms(self, name: str) -> None:
        """A place where `return(ms)` means: sleep that long."""
        returned = await self.hit(name)
        if returned:
            log.info('failpoint "%s": sleeping for %sms', name, returned)
            await asyncio.sleep(int(returned) / 1000)
            log.info('failpoint "%s": sleep done', name)


failpoints = Failpoints()
"""The failpoints of this process."""

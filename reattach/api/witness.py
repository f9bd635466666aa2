"""The control API of the witness, beside that of the mock S3 on the same port, below `/_control/`.

A *world* is what one test or one run of a plan sees: its listeners, S3 clients, processes, names, steps and
one history. Worlds know nothing of each other; ending one closes its listeners.

| method and path | body | answer |
|---|---|---|
| POST `/_control/worlds` | NewWorld | WorldState |
| GET `/_control/worlds/{id}` | | WorldState |
| DELETE `/_control/worlds/{id}` | | WorldState |
| POST `/_control/worlds/{id}/listeners` | NewListener | ListenerState |
| POST `/_control/worlds/{id}/clients` | NewClient | WorldState |
| POST `/_control/worlds/{id}/processes` | ProcessChange | WorldState |
| POST `/_control/worlds/{id}/labels` | NewLabel | WorldState |
| POST `/_control/worlds/{id}/marks` | NewMark | WorldState |
| POST `/_control/worlds/{id}/steps` | NewSteps | StepsState |
| GET `/_control/worlds/{id}/steps?happened=&timeout=` | | StepsState, when so many have happened |
| POST `/_control/worlds/{id}/steps/{n}/release` | | StepsState |
| DELETE `/_control/worlds/{id}/steps/{n}?release=` | | StepsState; it happens no more |
| DELETE `/_control/worlds/{id}/steps` | | StepsState, as they were; all are released |
"""

from __future__ import annotations

import msgspec

from reattach.api.effects import Front, NameRule
from reattach.api.history import Attributes
from reattach.api.plan import Step


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class NewWorld(_Body, frozen=True):
    """name: for the history's first line. history: absolute path of its file, which is made."""

    name: str
    history: str
    names: tuple[NameRule, ...] = ()


class NewListener(_Body, frozen=True):
    """A proxy in front of `host:port`, on a port of its own; who connects there is `actor`.

    front: HTTP or POSTGRES. port 0: any free one. copy_chunks: each chunk of a COPY to the server is an
    effect, too.
    """

    front: Front
    actor: str
    peer: str
    upstream_host: str
    upstream_port: int
    port: int = 0
    copy_chunks: bool = False


class ListenerState(_Body, frozen=True):
    port: int


class NewClient(_Body, frozen=True):
    """Requests to the mock S3 that are signed with this access key are of `actor`, in this world."""

    access_key: str
    actor: str


class ProcessChange(_Body, frozen=True):
    """A process is about to start (`starting`), has started (`pid`), was sent `signal` by the test, or has
    ended (`ended`, with `code`).
    """

    process: str
    starting: bool = False
    pid: int | None = None
    signal: str | None = None
    ended: bool = False
    code: int | None = None


class NewLabel(_Body, frozen=True):
    """What a value of a counted group of the name rules is called, instead of its number."""

    group: str
    value: str
    label: str


class NewMark(_Body, frozen=True):
    what: str
    text: str = ""
    facts: Attributes = {}


class NewSteps(_Body, frozen=True):
    """chain: each is armed when the one before it has happened; else all are armed at once. one_of: of those
    that are armed at once one happens, and the others are forgotten then.

    times: how often a step that is no link of a chain happens; None is without end. probability: of each
    chance, decided by `seed` and the effect's name, so that equal seeds hit equal effects.
    """

    steps: tuple[Step, ...]
    chain: bool = True
    one_of: bool = False
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0


class StepState(_Body, frozen=True):
    """id: counts from 1 in a world. effects: names of those at which it happened. held: those that stand
    there now.
    """

    id: int
    step: Step
    armed: bool = False
    effects: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class StepsState(_Body, frozen=True):
    """happened: how many steps have happened at least once."""

    steps: tuple[StepState, ...]
    happened: int


class WorldState(_Body, frozen=True):
    """effects: how many have arrived. changes: how many were done and not refused, of those that neither read
    nor come by a clock. running: processes that have started and not ended. killed: those that a step has
    ended since their last start. lost: what the witness could not record, which makes every verdict on this
    history unknown.
    """

    id: int
    effects: int
    changes: int = 0
    running: tuple[str, ...] = ()
    killed: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    lost: str | None = None

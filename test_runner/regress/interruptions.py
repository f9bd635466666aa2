"""Ways to interrupt an import that is held at a job, so that it can go on afterwards."""

from __future__ import annotations

from collections.abc import Callable

from reattach.fixtures.imports.handle import ImportTimeline

Interruption = Callable[[ImportTimeline], None]


def detach_by_policy(timeline: ImportTimeline) -> None:
    timeline.detach()
    timeline.release_all()
    timeline.attach()


def detach_by_attach_hook(timeline: ImportTimeline) -> None:
    timeline.detach_by_hook()
    timeline.release_all()
    timeline.attach_by_hook()


def pageserver_killed(timeline: ImportTimeline) -> None:
    timeline.kill().start()


def pageserver_terminated(timeline: ImportTimeline) -> None:
    timeline.terminate().start()


INTERRUPTIONS = [detach_by_policy, detach_by_attach_hook, pageserver_killed, pageserver_terminated]

"""Ways to break the engine on purpose, each with the invariant that goes and the test that must notice.

`./scripts/break` puts them into a copy of the tree, one at a time, and fails unless that test turns red.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breakage:
    """A change of the engine: in `file`, `old` (which occurs exactly once) becomes `new`.

    invariant: of docs/invariants.md. test: what to give to pytest's `-k`. says: a part of the failure's text.
    """

    name: str
    invariant: str
    file: str
    old: str
    new: str
    test: str
    says: str


TASK = "reattach/pageserver/import_pgdata/task.py"
EXECUTOR = "reattach/pageserver/import_pgdata/executor.py"
TARGET = "reattach/pageserver/timeline/import_target.py"

KILLED = "test_import_resume and pageserver_killed and 0_shards"

BREAKAGES = [
    Breakage(
        name="restart-from-job-1",
        invariant="I5",
        file=TASK,
        old="            completed=progress.completed,\n            concurrency",
        new="            completed=0,\n            concurrency",
        test=KILLED,
        says="I5 bounded rework",
    ),
    Breakage(
        name="skip-a-job-on-resume",
        invariant="I8",
        file=TASK,
        old="            completed=progress.completed,\n            concurrency",
        new="            completed=progress.completed and progress.completed + 1,\n            concurrency",
        test=KILLED,
        says="I5 bounded rework",
    ),
    Breakage(
        name="tell-before-durable",
        invariant="I2",
        file=TASK,
        old="            await self.target.make_durable()\n            reached",
        new="            reached",
        test="test_import_resume",
        says="I2 durable before told",
    ),
    Breakage(
        name="ignore-plan-hash",
        invariant="I1",
        file=TASK,
        old="planned.import_plan_hash != recorded.import_plan_hash or not same_source",
        new="False",
        test="test_import_resume_refuses_a_changed_bucket",
        says="the import succeeded, and the test expects that it cannot",
    ),
    Breakage(
        name="take-results-as-they-finish",
        invariant="I5",
        file=EXECUTOR,
        old="            await started.popleft()\n",
        new=(
            "            first, _ = await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)\n"
            "            started.remove(first.pop())\n"
        ),
        test="test_import_resume",
        says="I5 bounded rework",
    ),
]

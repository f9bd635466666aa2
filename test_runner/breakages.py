"""Ways to break the engine on purpose, each with the invariant that goes and the test that must notice.

`./scripts/break` puts them into a copy of the tree, one at a time, and fails unless that test turns red.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """In `file`, `old`, which occurs exactly once, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Breakage:
    """A change of the engine that breaks an invariant.

    invariant: of docs/invariants.md. test: what to give to pytest's `-k`. says: a part of the failure's text.
    """

    name: str
    invariant: str
    edits: tuple[Edit, ...]
    test: str
    says: str


TASK = "reattach/pageserver/import_pgdata/task.py"
EXECUTOR = "reattach/pageserver/import_pgdata/executor.py"
BUCKET = "reattach/pageserver/import_pgdata/bucket.py"
PGDATA = "reattach/pageserver/import_pgdata/pgdata.py"
TENANT_DELETION = "reattach/pageserver/tenant/delete.py"
ATTACH = "reattach/pageserver/tenant/attach.py"
LATE_WRITES = "reattach/pageserver/remote/late_writes.py"
TARGET = "reattach/pageserver/timeline/import_target.py"
UPLOADS = "reattach/pageserver/remote/timeline_client.py"
IMPORTS = "reattach/storage_controller/imports.py"
REPORTS = "reattach/storage_controller/db/import_reports.py"
TRANSITIONS = "reattach/storage_controller/core/import_state.py"
FINALIZER = "reattach/storage_controller/import_finalization.py"

ORDER = "reattach/pageserver/remote/upload_order.py"
UPCALLS = "reattach/pageserver/upcalls.py"
SHARD = "reattach/pageserver/tenant/shard.py"
SHARDS = "reattach/storage_controller/db/shards.py"
INDEX_CHOICE = "reattach/pageserver/remote/index_choice.py"

EXPLORED = "test_import_resume_explored"
KILLED = "test_import_resume and pageserver_killed and 0_shards"

BREAKAGES = [
    Breakage(
        name="restart-from-job-1",
        invariant="I5",
        edits=(
            Edit(
                TASK,
                "completed=progress.completed,\n            concurrency",
                "completed=0,\n            concurrency",
            ),
        ),
        test=KILLED,
        says="I5 bounded rework",
    ),
    Breakage(
        name="skip-a-job-on-resume",
        invariant="I8",
        edits=(
            Edit(
                TASK,
                "completed=progress.completed,\n            concurrency",
                "completed=progress.completed and progress.completed + 1,\n            concurrency",
            ),
        ),
        test=KILLED,
        says="I8 whole",
    ),
    Breakage(
        name="tell-before-durable",
        invariant="I2",
        edits=(
            Edit(
                TASK,
                "            await self.target.make_durable()\n            reached",
                "            reached",
            ),
        ),
        test="test_import_resume_checkpoint_is_durable",
        says="I2 durable before told",
    ),
    Breakage(
        name="leave-layers-out-of-the-index",
        invariant="I2",
        edits=(Edit(UPLOADS, "        self._layers[name] = metadata\n", ""),),
        test="test_import_resume_checkpoint_is_durable",
        says="I2 durable before told",
    ),
    Breakage(
        name="accept-a-stale-generation",
        invariant="I4",
        edits=(Edit(REPORTS, "if generations[shard] != report.generation:", "if False:"),),
        test="test_import_resume_refuses_a_stale_generation",
        says="I4 fenced",
    ),
    Breakage(
        name="ignore-the-plan-hash",
        invariant="I1",
        edits=(
            Edit(
                TASK,
                "planned.import_plan_hash != recorded.import_plan_hash or not same_source",
                "False",
            ),
        ),
        test="test_import_resume_refuses_a_changed_bucket and content_changed",
        says="I1 purity",
    ),
    Breakage(
        name="plan-in-listing-order",
        invariant="I10",
        edits=(Edit(PGDATA, "order = np.lexsort(columns[::-1])", "order = np.arange(len(relations))"),),
        test="test_import_resume_places",
        says="I10 alive",
    ),
    Breakage(
        name="replace-progress-with-a-smaller-one",
        invariant="I3",
        edits=(
            Edit(TASK, "progress.jobs, completed, progress", "progress.jobs, completed % 8 or 8, progress"),
            Edit(
                TRANSITIONS,
                "Transition.STORE if reported.progress.completed > before.completed else Transition.OUTDATED",
                "Transition.STORE",
            ),
        ),
        test="test_import_resume_again",
        says="I3",
    ),
    Breakage(
        name="trust-what-was-durable-once",
        invariant="I2",
        edits=(Edit(TARGET, "            if problems:\n", "            if not problems and problems:\n"),),
        test="test_import_resume_looks_at_its_layers_before_done",
        says="I2 durable before told",
    ),
    Breakage(
        name="attach-what-was-deleted",
        invariant="I9",
        edits=(Edit(ATTACH, "if generation <= buried:", "if generation < 0:"),),
        test="test_import_resume_late_writes and killed",
        says="I9 gone",
    ),
    Breakage(
        name="leave-late-objects",
        invariant="I9",
        edits=(Edit(LATE_WRITES, "    if not timelines:\n", "    if timelines:\n"),),
        test="test_import_resume_late_writes and woken",
        says="I9 gone",
    ),
    Breakage(
        name="take-results-as-they-finish",
        invariant="I2",
        edits=(
            Edit(
                EXECUTOR,
                "            number = last_taken + 1\n            await end_of(number).wait()\n",
                "            while not (ready := [n for n in finished if finished[n].is_set()]):\n"
                "                await asyncio.sleep(0.001)\n"
                "            number = ready[0]\n",
            ),
            Edit(EXECUTOR, "last_taken = number", "last_taken += 1"),
        ),
        test="test_import_resume",
        says="I2 durable before told",
    ),
    Breakage(
        name="tell-before-activation",
        invariant="I7",
        edits=(
            Edit(FINALIZER, "                error = await self._activate(row)\n", "                pass\n"),
            Edit(
                FINALIZER,
                "            await self._notify(key, error)\n",
                "            await self._notify(key, error)\n            await self._activate(row)\n",
            ),
        ),
        test=EXPLORED,
        says="I7 told",
    ),
    Breakage(
        name="delete-only-the-unsharded-prefix",
        invariant="I9",
        edits=(Edit(TENANT_DELETION, "storage.list_beginning(prefix)", "storage.list_objects(prefix)"),),
        test="test_import_resume_tenant_delete and importing and mock_s3",
        says="I9 gone",
    ),
    Breakage(
        name="forget-imports-at-a-restart",
        invariant="I10",
        edits=(
            Edit(
                IMPORTS,
                "        for row in await table.list_unfinished(self._db):\n            if",
                "        for row in await table.list_unfinished(self._db):\n"
                "            await table.delete(self._db, *row.key)\n            continue\n            if",
            ),
        ),
        test="test_import_resume_both_killed_before_activation",
        says="I10 alive",
    ),
    Breakage(
        name="report-done-before-the-last-layers-are-there",
        invariant="I2",
        edits=(
            Edit(
                TASK,
                'notifying storcon")\n        await self.target.make_durable()\n',
                'notifying storcon")\n',
            ),
            Edit(
                TASK,
                "        await self.target.check_layers(self._layers(plan, progress.jobs))\n        await self.upcalls",
                "        await self.upcalls",
            ),
        ),
        test=EXPLORED,
        says="I2",
    ),
    Breakage(
        name="let-an-index-overtake-its-layers",
        invariant="I2",
        edits=(
            Edit(
                ORDER,
                "if not entry.running and not layer_before and not index_before:",
                "if not entry.running and not index_before:",
            ),
        ),
        test=EXPLORED,
        says="I2",
    ),
    Breakage(
        name="delete-before-the-index-says-so",
        invariant="I2",
        edits=(
            Edit(
                UPLOADS,
                "        if ours:\n            self._delete(ours)\n",
                "        if ours:\n            asyncio.get_running_loop().create_task(self._storage.delete(ours))\n",
            ),
            Edit(UPLOADS, "import logging\n", "import asyncio\nimport logging\n"),
        ),
        test=EXPLORED,
        says="I2",
    ),
    Breakage(
        name="leave-what-nothing-names",
        invariant="I9",
        edits=(
            Edit(
                UPLOADS,
                "        if not unnamed(listed, self._layers, keep={newest or ours}):\n            return\n",
                "        if listed:\n            return\n",
            ),
        ),
        test=EXPLORED,
        says="I9",
    ),
    Breakage(
        name="remember-a-status-across-attachments",
        invariant="I5",
        edits=(
            Edit(
                TASK,
                "    status = await upcalls.get_status()\n",
                "    key = (target.tenant_shard_id, target.timeline_id)\n"
                "    status = _SEEN.setdefault(key, await upcalls.get_status())\n",
            ),
            Edit(
                TASK, "log = logging.getLogger(__name__)\n", "log = logging.getLogger(__name__)\n_SEEN = {}\n"
            ),
        ),
        test=EXPLORED,
        says="I",
    ),
    Breakage(
        name="give-a-checkpoint-up-when-nobody-answers",
        invariant="I5",
        edits=(
            Edit(
                UPCALLS,
                "            except TransportError as e:\n                self._absence.answered(e)\n                await retries.failed(e)\n            except _Refused as e:\n                self._absence.answered(e)\n                if e.status not in",
                "            except TransportError as e:\n                if not status.is_terminal:\n                    return\n                await retries.failed(e)\n            except _Refused as e:\n                self._absence.answered(e)\n                if e.status not in",
            ),
        ),
        test="test_import_resume_controller_killed_while_jobs_run",
        says="I5 bounded rework",
    ),
    Breakage(
        name="work-on-after-a-detach",
        invariant="I13",
        edits=(
            Edit(
                SHARD,
                "        for task in importing:\n            task.timeline.state = TimelineState.STOPPING\n        await asyncio.gather(*(task.cancel() for task in importing))\n        await asyncio.gather(\n            *(task.timeline.shutdown(0) for task in importing),\n",
                "        await asyncio.gather(\n",
            ),
        ),
        test="test_import_resume and detach_by_policy and 0_shards",
        says="I13",
    ),
    Breakage(
        name="tell-of-success-though-a-shard-failed",
        invariant="I7",
        edits=(Edit(FINALIZER, "error = import_state.error_text(row.statuses)", "error = None"),),
        test="test_import_resume",
        says="I7",
    ),
    Breakage(
        name="forget-creations-at-a-restart",
        invariant="I10",
        edits=(
            Edit(
                IMPORTS,
                "        for row in await table.list_unfinished(self._db):\n            if row.is_complete:\n                self.ensure_finalizer(row.key)\n            elif row.needs_creation:",
                "        for row in await table.list_unfinished(self._db):\n            if row.is_complete:\n                self.ensure_finalizer(row.key)\n            elif row.error is not None:",
            ),
        ),
        test="test_import_resume_creation_goes_on_without_its_client",
        says="I10",
    ),
    Breakage(
        name="let-the-window-grow-with-each-resume",
        invariant="I5",
        edits=(
            Edit(
                EXECUTOR,
                "window = run_ahead_window(concurrency)",
                "window = run_ahead_window(concurrency) + 4 * completed",
            ),
        ),
        test=EXPLORED,
        says="I5",
    ),
    Breakage(
        name="tell-twice",
        invariant="I7",
        edits=(
            Edit(
                FINALIZER,
                "                if answer.is_success:\n",
                "                if answer.is_success and attempt > 1:\n",
            ),
        ),
        test=EXPLORED,
        says="I7",
    ),
    Breakage(
        name="forget-before-telling",
        invariant="I7",
        edits=(
            Edit(
                FINALIZER,
                "            await self._notify(key, error)\n",
                "            await until_available(lambda: imports.finish(self._db, *key, error))\n            await self._notify(key, error)\n",
            ),
        ),
        test="test_import_resume_controller_killed_at_its_last_write",
        says="I7 told",
    ),
    Breakage(
        name="hash-what-changes-from-run-to-run",
        invariant="I1",
        edits=(Edit(TASK, "plan_hash(plan), limit)", "plan_hash(plan) ^ id(bucket), limit)"),),
        test=EXPLORED,
        says="I10 alive",
    ),
    Breakage(
        name="wipe-what-was-recorded",
        invariant="I2",
        edits=(
            Edit(
                TASK,
                '        if self.recorded is None:\n            log.info("wipe the slate clean")\n',
                '        if self.recorded is not None:\n            await self.target.wipe_layers()\n        if self.recorded is None:\n            log.info("wipe the slate clean")\n',
            ),
            Edit(
                TASK,
                "            await self.target.check_layers(self._layers(plan, progress.completed))\n",
                "",
            ),
        ),
        test=EXPLORED,
        says="I2",
    ),
    Breakage(
        name="make-no-checkpoint",
        invariant="I5",
        edits=(
            Edit(
                EXECUTOR,
                "if number % checkpoint_threshold == 0:",
                "if number % checkpoint_threshold == checkpoint_threshold:",
            ),
        ),
        test=EXPLORED,
        says="I5",
    ),
    Breakage(
        name="attach-twice-in-one-generation",
        invariant="I4",
        edits=(
            Edit(
                SHARDS,
                "SET generation = coalesce(generation, 0) + 1\n            WHERE generation_pageserver",
                "SET generation = coalesce(generation, 1)\n            WHERE generation_pageserver",
            ),
        ),
        test=KILLED,
        says="I4",
    ),
    Breakage(
        name="read-the-oldest-index",
        invariant="I2",
        edits=(
            Edit(
                INDEX_CHOICE,
                "    for candidate in (generation, generation - 1):",
                "    for candidate in range(generation + 1):",
            ),
        ),
        test=EXPLORED,
        says="I",
    ),
    Breakage(
        name="start-again-after-the-end",
        invariant="I3",
        edits=(
            Edit(
                TASK,
                "    if not isinstance(status, InProgress):\n",
                "    if isinstance(status, Done):\n        status = InProgress(None)\n    if not isinstance(status, InProgress):\n",
            ),
            Edit(
                TRANSITIONS,
                "        return Transition.REJECT_TERMINAL\n",
                "        return Transition.STORE\n",
            ),
        ),
        test="test_import_resume_both_killed_before_activation",
        says="I3",
    ),
    Breakage(
        name="report-progress-after-done",
        invariant="I6",
        edits=(
            Edit(
                TASK,
                "        await self.upcalls.put_status(Done())\n",
                "        await self.upcalls.put_status(Done())\n        await self.upcalls.put_status(InProgress(progress))\n        await self.upcalls.put_status(Done())\n",
            ),
            Edit(
                TRANSITIONS,
                "        return Transition.REJECT_TERMINAL\n",
                "        return Transition.STORE\n",
            ),
        ),
        test=KILLED,
        says="I6",
    ),
    Breakage(
        name="try-a-refusal-for-ever",
        invariant="I11",
        edits=(Edit(BUCKET, "if refusals >= REFUSALS:", "if refusals < 0:"),),
        test="test_import_resume_ends_when_the_bucket_refuses",
        says="I11 ends",
    ),
    Breakage(
        name="run-more-jobs-than-may-run",
        invariant="I12",
        edits=(
            Edit(
                EXECUTOR, "range(min(concurrency, jobs - completed))", "range(min(window, jobs - completed))"
            ),
        ),
        test=EXPLORED,
        says="I12 bounded memory",
    ),
]

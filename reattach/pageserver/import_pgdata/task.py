"""An import from its first status to its last: prepare or resume, plan, execute, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reattach.api import codec
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress
from reattach.api.layer_name import LayerName
from reattach.api.location import ImportLocation
from reattach.pageserver.import_pgdata.batches import writes_a_layer
from reattach.pageserver.import_pgdata.bucket import Bucket, open_bucket
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.control_file import ControlFile
from reattach.pageserver.import_pgdata.errors import (
    ImportFailed,
    ImportInterrupted,
    ObjectError,
    PlanMismatch,
)
from reattach.pageserver.import_pgdata.executor import execute
from reattach.pageserver.import_pgdata.job import JobRunner, byte_budget
from reattach.pageserver.import_pgdata.local_trouble import despite_local_trouble
from reattach.pageserver.import_pgdata.plan import Plan
from reattach.pageserver.import_pgdata.plan_hash import plan_hash
from reattach.pageserver.import_pgdata.planning import list_pgdata, read_control_file, read_plan
from reattach.pageserver.import_pgdata.source import (
    describe_changes,
    manifest_digest,
    recorded_of,
    write_manifest,
)
from reattach.pageserver.import_pgdata.target import ImportMetrics, ImportTarget, ImportUpcalls
from reattach.pageserver.import_pgdata.wait_for_pgdata import wait_for_pgdata
from reattach.runtime.errors import cause_chain
from reattach.runtime.failpoints import Failpoints

log = logging.getLogger(__name__)


async def run_import(
    target: ImportTarget,
    upcalls: ImportUpcalls,
    location: ImportLocation,
    config: ImportConfig,
    failpoints: Failpoints,
    metrics: ImportMetrics,
) -> None:
    """Imports, or goes on importing, until the storage controller knows of success or of the reason why not.

    Cancellation, and ImportInterrupted, which this raises when the timeline goes away, report nothing.
    """
    if target.is_import_done:
        log.info("import is done already")
        return
    log.info("peeking shard status")
    status = await upcalls.get_status()
    if not isinstance(status, InProgress):
        log.info("shard status is terminal already: %s", status)
        return
    try:
        await _Import(target, upcalls, config, failpoints, metrics, status.progress).run(location)
    except ImportInterrupted:
        raise
    except Exception as e:
        if target.is_cancelling:
            raise ImportInterrupted("Import task cancelled") from e
        foreseen = isinstance(e, ImportFailed)
        reason = cause_chain(e) if foreseen else f"unexpected {type(e).__name__}: {cause_chain(e)}"
        log.error("task failed: %s", reason, exc_info=None if foreseen else e)
        await upcalls.put_status(Error(reason))


@dataclass(frozen=True, slots=True)
class _Import:
    target: ImportTarget
    upcalls: ImportUpcalls
    config: ImportConfig
    failpoints: Failpoints
    metrics: ImportMetrics
    recorded: ShardImportProgress | None

    async def run(self, location: ImportLocation) -> None:
        bucket = open_bucket(location, self.config, self.metrics.bytes_read)
        if self.recorded is None:
            log.info("wipe the slate clean")
            await despite_local_trouble(
                "wiping what an earlier attempt left", self.config.local_patience, self.target.wipe_layers
            )
            log.info("wait for pgdata to reach status 'done'")
            await wait_for_pgdata(bucket, self.target)
        listed = await list_pgdata(bucket)
        control_file = await read_control_file(bucket, listed)
        limit = self._soft_size_limit()
        try:
            plan = await read_plan(bucket, listed, control_file, self.target.shard, limit)
        except ObjectError as e:
            raise await self._changed_since(listed, e) from None
        progress = ShardImportProgress(len(plan.jobs), 0, plan_hash(plan), limit)
        manifest = write_manifest(plan.sources)
        if self.recorded is not None:
            await self._check_against_record(progress, plan, manifest)
            progress = self.recorded
            await self.target.check_layers(self._layers(plan, progress.completed))
        log.info("update TimelineMetadata based on LSNs from control file")
        await self.target.upload_metadata(control_file.base_lsn, control_file.pg_version)
        await self._record_source(manifest)
        self.metrics.jobs_planned(progress.jobs)
        log.info(
            "import plan has %d jobs, resuming after job %d, plan hash %d",
            progress.jobs,
            progress.completed,
            progress.import_plan_hash,
        )
        await self.failpoints.pausable("import-timeline-pre-execute-pausable")
        await self._execute(bucket, control_file, plan, progress)
        log.info("Import plan executed. Flushing remote changes and notifying storcon")
        await self.target.make_durable()
        await self.failpoints.pausable("import-timeline-pre-success-notify-pausable")
        # What earlier passes uploaded was durable then. Whether it still is nobody has looked since.
        await self.target.check_layers(self._layers(plan, progress.jobs))
        await self.upcalls.put_status(Done())
        log.info("import of %d jobs reported Done", progress.jobs)

    def _layers(self, plan: Plan, jobs: int) -> list[LayerName]:
        """What the first `jobs` jobs write."""
        wrote = (job for job in plan.jobs[:jobs] if writes_a_layer(job, self.target.shard))
        return [LayerName(job.keys, plan.pgdata_lsn) for job in wrote]

    def _soft_size_limit(self) -> int:
        if self.recorded is None:
            return self.config.import_job_soft_size_limit
        if self.recorded.job_soft_size_limit <= 0:
            raise PlanMismatch(f"recorded job_soft_size_limit is {self.recorded.job_soft_size_limit}")
        return self.recorded.job_soft_size_limit

    async def _check_against_record(self, planned: ShardImportProgress, plan: Plan, manifest: bytes) -> None:
        """Raises PlanMismatch unless the bucket still is what the recorded progress was made with."""
        recorded, source = self.recorded, self.target.import_source
        assert recorded is not None
        same_source = source is None or source.digest == manifest_digest(manifest)
        if planned.jobs != recorded.jobs:
            problem = "Import plan job length does not match storcon metadata"
        elif planned.import_plan_hash != recorded.import_plan_hash or not same_source:
            problem = "Import plan does not match storcon metadata"
        elif recorded.completed > recorded.jobs:
            problem = "Import progress does not match its own plan"
        else:
            return
        changes = "the objects that it began with were not recorded"
        if source is not None:
            changes = "no object of the bucket changed"
            if not same_source:
                changes = describe_changes(await self.target.read_source_manifest(source), plan.sources)
        raise PlanMismatch(
            f"{problem}: {planned.jobs} jobs with hash {planned.import_plan_hash:#x} are planned, "
            f"{recorded.completed} of {recorded.jobs} with hash {recorded.import_plan_hash:#x} are recorded; "
            f"{changes}"
        )

    async def _changed_since(self, listed: Sequence[BucketObject], error: ObjectError) -> ImportFailed:
        """What is to be said of a bucket that cannot be imported: on a resume, that it was another before."""
        source = self.target.import_source
        manifest = None if source is None else await self.target.read_source_manifest(source)
        if self.recorded is None or manifest is None:
            return error
        try:
            before = recorded_of(manifest, listed)
        except codec.DecodeError:
            return error
        if manifest_digest(write_manifest(sorted(before))) == manifest_digest(manifest):
            return error
        changes = describe_changes(manifest, before)
        return PlanMismatch(f"Import plan does not match storcon metadata: {error}; {changes}")

    async def _record_source(self, manifest: bytes) -> None:
        """Makes sure that the next resume can tell whether the bucket changed."""
        digest = manifest_digest(manifest)
        source = self.target.import_source
        if source is None or source.digest != digest:
            await self.target.record_source(manifest, digest)

    async def _execute(
        self, bucket: Bucket, control_file: ControlFile, plan: Plan, progress: ShardImportProgress
    ) -> None:
        log.info("Executing import plan")
        runner = JobRunner(
            self.target,
            bucket,
            self.config,
            plan.pgdata_lsn,
            self.config.verify_checksums and control_file.has_page_checksums,
            byte_budget(self.config),
        )

        async def run(number: int) -> None:
            log.info("import job %d/%d started", number, progress.jobs)
            outcome = await runner.run(plan.jobs[number - 1])
            self.metrics.job_done(outcome.ran_before)
            log.info("import job %d/%d wrote %s", number, progress.jobs, outcome.layer or "no layer")

        async def before_taking(job: int) -> None:
            await self.failpoints.pausable("import-task-complete-pausable")
            log.info("import job %d/%d taken", job, progress.jobs)

        async def after_taking(job: int) -> None:
            await self.failpoints.pausable(f"import-job-{job}-taken-pausable")

        async def checkpoint(completed: int) -> None:
            log.info("Checkpointing import status")
            began = time.monotonic()
            await self.target.make_durable()
            reached = ShardImportProgress(
                progress.jobs, completed, progress.import_plan_hash, progress.job_soft_size_limit
            )
            await self.upcalls.put_status(InProgress(reached))
            log.info("import checkpoint %d/%d recorded", completed, progress.jobs)
            self.metrics.checkpoint_done(time.monotonic() - began)

        await execute(
            progress.jobs,
            run,
            completed=progress.completed,
            concurrency=self.config.import_job_concurrency,
            checkpoint_threshold=self.config.import_job_checkpoint_threshold,
            checkpoint=checkpoint,
            before_taking=before_taking,
            after_taking=after_taking,
        )

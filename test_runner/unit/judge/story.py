"""Histories by hand: an import of a few jobs, effect by effect. A test leaves one out, or moves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from reattach.api.effects import EffectClass, EffectName, Front
from reattach.api.history import (
    HISTORY_VERSION,
    Answered,
    Arrived,
    Attributes,
    Begin,
    Dropped,
    Ended,
    History,
    Line,
    Mark,
    Performed,
    Read,
)
from reattach.api.ids import UNSHARDED, ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.key import KEY_MAX, KEY_MIN, KeyRange, RelTag
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.fixtures.judge.neon.reference import Reference, learn

TENANT, TIMELINE = TenantId("aa" * 16), TimelineId("bb" * 16)
BUCKET, SOURCE_BUCKET, SOURCE = "storage", "import", "source"
JOBS, HASH, LIMIT, SIZE = 12, 77, 524288, 4096
THRESHOLD, WINDOW, CONCURRENCY, RANGE = 4, 8, 16, 64 * 8192
REL = RelTag(1663, 5, 16384, 0)


def layer(job: int) -> LayerName:
    """Job n of the import has blocks 64(n-1) to 64n of a relation, the first and the last also the rest."""
    start = KEY_MIN if job == 1 else REL.block(64 * (job - 1))
    end = KEY_MAX if job == JOBS else REL.block(64 * job)
    return LayerName(KeyRange(start, end), Lsn(0x1500028))


@dataclass
class Story:
    """A history under construction; `shard` and `generation` are those of which it is told."""

    shard: TenantShardId = field(default_factory=lambda: TenantShardId.unsharded(TENANT))
    generation: int = 1
    pageserver: str = "pageserver_1"
    incarnation: int = 1
    timeline: TimelineId = TIMELINE
    source: str = SOURCE
    lines: list[Line] = field(default_factory=list)
    _counts: Counter[EffectClass] = field(default_factory=Counter)
    _effect: int = 0
    _index: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines.append(Begin(at=0.0, version=HISTORY_VERSION, time=0.0, world="story"))

    # -- effects in general

    @property
    def now(self) -> float:
        return len(self.lines) / 100

    def arrive(self, of: EffectClass, front: Front, request: Attributes) -> int:
        self._effect += 1
        self._counts[of] += 1
        incarnation = self.incarnation if of.actor == self.pageserver else 1
        name = str(EffectName(of, self._counts[of]))
        self.lines.append(
            Arrived(
                at=self.now,
                effect=self._effect,
                name=name,
                front=front,
                request=request,
                incarnation=incarnation,
            )
        )
        return self._effect

    def perform(self, effect: int, status: int = 200, body: object = None) -> None:
        answer = {} if body is None else {"body": body}
        self.lines.append(Performed(at=self.now, effect=effect, status=status, answer=answer))

    def answer(self, effect: int, status: int = 200) -> None:
        self.lines.append(Answered(at=self.now, effect=effect, status=status))

    def drop(self, effect: int) -> Story:
        self.lines.append(Dropped(at=self.now, effect=effect, why="the sender is gone"))
        return self

    def whole(self, effect: int, status: int = 200, body: object = None) -> Story:
        self.perform(effect, status, body)
        self.answer(effect, status)
        return self

    def _http(
        self, actor: str, peer: str, method: str, path: str, body: object, status: int, answer: object = None
    ) -> Story:
        of = EffectClass(actor, peer, method.lower(), path.rpartition("/")[2])
        request: Attributes = {"method": method, "path": path, "body": body}
        effect = self.arrive(of, Front.HTTP, request)
        return self.whole(effect, status, answer)

    # -- storage

    def key(self, name: str) -> str:
        return f"tenants/{self.shard}/timelines/{self.timeline}/{name}"

    def arrive_put(self, name: str, size: int, body: object = None) -> int:
        of = EffectClass(self.pageserver, "s3", "put", name.partition("-")[0])
        request: Attributes = {
            "operation": "PutObject",
            "bucket": BUCKET,
            "key": self.key(name),
            "size": size,
        }
        return self.arrive(of, Front.S3, request if body is None else request | {"body": body})

    def put(self, name: str, size: int = SIZE, body: object = None) -> Story:
        return self.whole(self.arrive_put(name, size, body))

    def put_layer(self, job: int, size: int = SIZE) -> Story:
        return self.put(f"{layer(job)}-{self.generation:08x}", size)

    def index(self, jobs: Iterable[int] = (), *, deleted: bool = False, done: bool = False) -> Story:
        """Writes the index of this generation. Layers of `jobs` are those of this generation."""
        layers = self._index.setdefault(str(self.shard), {})
        for job in jobs:
            metadata: dict[str, object] = {"file_size": SIZE, "generation": self.generation}
            if self.shard.shard_count:
                metadata["shard"] = str(self.shard.shard_index)
            layers[str(layer(job))] = metadata
        place = {"region": "here", "bucket": SOURCE_BUCKET, "key": self.source}
        state: dict[str, object] = {"InProgress": {"location": {"AwsS3": place}, "idempotency_key": "x"}}
        body: dict[str, object] = {
            "version": 15,
            "import_pgdata": {"V1": {"Done": {}} if done else state},
            "layer_metadata": dict(layers),
        }
        if deleted:
            body["deleted_at"] = "2025-01-01T00:00:00"
        return self.put(f"index_part.json-{self.generation:08x}", 999, body)

    def bury(self) -> Story:
        """Says that the timeline is dead up to this generation."""
        key = f"tenants/{self.shard}/deleted-timelines/{self.timeline}-{self.generation:08x}"
        of = EffectClass(self.pageserver, "s3", "put", "tombstone")
        request: Attributes = {"operation": "PutObject", "bucket": BUCKET, "key": key, "size": 0}
        return self.whole(self.arrive(of, Front.S3, request))

    def remove(self, jobs: Iterable[int], *indexes: int) -> Story:
        """The first generation's layers of jobs, and the indexes of these generations."""
        names = [f"{layer(job)}-00000001" for job in jobs] + [f"index_part.json-{n:08x}" for n in indexes]
        keys = [self.key(name) for name in names]
        request: Attributes = {"operation": "DeleteObjects", "bucket": BUCKET, "key": "", "keys": keys}
        return self.whole(self.arrive(EffectClass(self.pageserver, "s3", "delete"), Front.S3, request))

    def read(
        self, job: int, blocks: int = 64, etag: str | None = None, status: int = 206, whole: bool = False
    ) -> Story:
        """A ranged read for a job; whole: of all the object, as for a plan."""
        start = 64 * (job - 1) * 8192
        asked: Attributes = {} if whole else {"range": [start, start + blocks * 8192]}
        self.lines.append(
            Read(
                at=self.now,
                name=f"{self.pageserver} > s3: get data",
                front=Front.S3,
                request={
                    "operation": "GetObject",
                    "bucket": SOURCE_BUCKET,
                    "key": f"{self.source}/pgdata/base/5/16384",
                    **asked,
                },
                status=status,
                answer={} if etag is None else {"etag": etag},
                incarnation=self.incarnation,
            )
        )
        return self

    # -- upcalls

    def _upcall(self, **more: object) -> dict[str, object]:
        return {
            "tenant_shard_id": str(self.shard),
            "timeline_id": str(self.timeline),
            "generation": self.generation,
            **more,
        }

    def ask(self, completed: int | None = None, answer: object = None) -> Story:
        """The pageserver asks how far it is, and is told. A mere read."""
        told = {"InProgress": None if completed is None else self.progress(completed)}
        self.lines.append(
            Read(
                at=self.now,
                name=f"{self.pageserver} > storage_controller: get timeline_import_status",
                front=Front.HTTP,
                request={
                    "method": "GET",
                    "path": "/upcall/v1/timeline_import_status",
                    "body": self._upcall(),
                },
                status=200,
                answer={"body": told if answer is None else answer},
                incarnation=self.incarnation,
            )
        )
        return self

    def progress(self, completed: int, **changes: int) -> object:
        told = {
            "jobs": JOBS,
            "completed": completed,
            "import_plan_hash": HASH,
            "job_soft_size_limit": LIMIT,
        }
        return {"V1": told | changes}

    def arrive_report(self, status: object) -> int:
        of = EffectClass(self.pageserver, "storage_controller", "post", "timeline_import_status")
        path = "/upcall/v1/timeline_import_status"
        request: Attributes = {"method": "POST", "path": path, "body": self._upcall(status=status)}
        return self.arrive(of, Front.HTTP, request)

    def checkpoint(self, completed: int, status: int = 200, **changes: int) -> Story:
        return self.whole(self.arrive_report({"InProgress": self.progress(completed, **changes)}), status)

    def done(self, status: int = 200) -> Story:
        return self.whole(self.arrive_report("Done"), status)

    def error(self, text: str = "bad block") -> Story:
        return self.whole(self.arrive_report({"Error": text}))

    def validate(self, valid: bool = True, generation: int | None = None) -> Story:
        asked = {"id": str(self.shard), "gen": generation or self.generation}
        path, answer = "/upcall/v1/validate", {"tenants": [{"id": str(self.shard), "valid": valid}]}
        body = {"tenants": [asked]}
        return self._http(self.pageserver, "storage_controller", "POST", path, body, 200, answer)

    def re_attach(self, generation: int) -> Story:
        """The pageserver starts again and is given the shard with this generation."""
        self.generation = generation
        entry = {"id": str(self.shard), "gen": generation, "mode": "AttachedSingle", "stripe_size": 2048}
        path, answer = "/upcall/v1/re-attach", {"tenants": [entry]}
        return self._http(self.pageserver, "storage_controller", "POST", path, {"node_id": 1}, 200, answer)

    # -- what the controller has others do

    def location(self, mode: str, generation: int | None = None) -> Story:
        return self.whole(self.arrive_location(mode, generation))

    def arrive_location(self, mode: str, generation: int | None = None) -> int:
        path = f"/v1/tenant/{self.shard}/location_config"
        body: dict[str, object] = {
            "mode": mode,
            "generation": generation,
            "tenant_conf": {},
            "shard_stripe_size": 2048,
        }
        of = EffectClass("storage_controller", self.pageserver, "put", "location_config")
        return self.arrive(of, Front.HTTP, {"method": "PUT", "path": path, "body": body})

    def attach(self, generation: int) -> Story:
        self.generation = generation
        self.location("AttachedSingle", generation)
        return self

    def create(self) -> Story:
        path = f"/v1/tenant/{self.shard}/timeline"
        body = {"new_timeline_id": str(self.timeline), "import_pgdata": {"idempotency_key": "x"}}
        return self._http("storage_controller", self.pageserver, "POST", path, body, 201)

    def activate(self, status: int = 200) -> Story:
        path = f"/v1/tenant/{self.shard}/timeline/{self.timeline}/activate_post_import"
        return self._http("storage_controller", self.pageserver, "PUT", path, None, status)

    def delete(self, status: int = 202) -> Story:
        path = f"/v1/tenant/{self.shard}/timeline/{self.timeline}"
        return self._http("storage_controller", self.pageserver, "DELETE", path, None, status)

    def tell(self, error: str | None = None, status: int = 200) -> Story:
        body: object = {
            "tenant_id": str(self.shard.tenant_id),
            "timeline_id": str(self.timeline),
            "error": error,
        }
        return self._http("storage_controller", "control_plane", "PUT", "/import_complete", body, status)

    # -- the rest

    def mark(self, what: str, **facts: object) -> Story:
        self.lines.append(Mark(at=self.now, what=what, facts=facts))
        return self

    def kill(self) -> Story:
        """The pageserver ends."""
        self.lines.append(Ended(at=self.now, process=self.pageserver, incarnation=self.incarnation, code=-9))
        self.incarnation += 1
        return self

    # -- whole passages

    def begin(self) -> Story:
        """Up to the first job."""
        return self.settings().attach(self.generation).create().index().ask()

    def settings(self, window: int = WINDOW, concurrency: int = CONCURRENCY) -> Story:
        facts = {"tenant_id": str(self.shard.tenant_id), "timeline_id": str(self.timeline)}
        bounds = {"window": window, "concurrency": concurrency, "range_size": RANGE}
        self.mark("settings", threshold=THRESHOLD, **bounds, **facts)
        return self

    def written(self, first: int, last: int) -> Story:
        """Layers of jobs, and the index that names them; nobody is told."""
        for job in range(first, last + 1):
            self.put_layer(job)
        return self.index(range(first, last + 1))

    def reports(self, completed: int) -> int:
        """The report of a checkpoint arrives."""
        return self.arrive_report({"InProgress": self.progress(completed)})

    def jobs(self, first: int, last: int) -> Story:
        """Jobs, with the checkpoints after every fourth."""
        begun = list[int]()
        for job in range(first, last + 1):
            self.read(job)
            self.put_layer(job)
            begun.append(job)
            if job % THRESHOLD == 0:
                self.index(begun)
                self.checkpoint(job)
                begun = []
        return self

    def end(self) -> Story:
        """From the last job's checkpoint to the control plane."""
        return self.done().activate().index(done=True).tell()

    def killed_and_resumed(self, completed: int | None, generation: int = 2) -> Story:
        """kill -9, a new start, and the question."""
        return self.kill().re_attach(generation).ask(completed)

    def history(self) -> History:
        return History(tuple(self.lines))


def uninterrupted() -> Story:
    return Story().begin().jobs(1, JOBS).end()


def reference_run() -> Story:
    """A checkpoint after each job."""
    story = Story().begin()
    for job in range(1, JOBS + 1):
        story.read(job).put_layer(job).index([job]).checkpoint(job)
    return story.end()


def reference() -> Reference:
    """Of an import without shards, and of one with two, whose shards have the same jobs here."""
    jobs = learn(reference_run().history()).shards[UNSHARDED]
    return Reference({UNSHARDED: jobs, ShardIndex(0, 2): jobs, ShardIndex(1, 2): jobs})


def with_reference(story: Story) -> History:
    story.mark("reference", timeline_id=str(TIMELINE), **reference().facts())
    return story.history()


def interrupted() -> Story:
    """Killed at job 6, with the layers of 5 and 6 in the storage."""
    return Story().begin().jobs(1, 6).killed_and_resumed(4).jobs(5, JOBS).end()

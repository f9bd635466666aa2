"""Random histories of imports at a real controller on a real PostgreSQL, checked after every step.

The controller is restarted and killed between any two steps, and at any of its writes and calls. Set
REATTACH_MACHINE_EXAMPLES to run that many random histories; without it a few, always the same, are run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from reattach.api.controller_points import ALL_POINTS
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud

EXAMPLES = os.environ.get("REATTACH_MACHINE_EXAMPLES")

SETTINGS = settings(
    max_examples=int(EXAMPLES or 12),
    stateful_step_count=20,
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink) if EXAMPLES else (Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

JOBS = 8
Statuses = dict[str, Any]


def in_progress(completed: int, plan: int = 1) -> dict[str, Any]:
    v1 = {"jobs": JOBS, "completed": completed, "import_plan_hash": plan, "job_soft_size_limit": 1}
    return {"InProgress": {"V1": v1}}


checkpoints = st.builds(in_progress, st.integers(1, JOBS), st.sampled_from([1, 1, 2]))
reports = st.one_of(
    st.just({"InProgress": None}),
    checkpoints,
    st.just("Done"),
    st.just("Done"),
    st.sampled_from(["first", "second"]).map(lambda text: {"Error": text}),
)


def completed(status: Any) -> int | None:
    """None once it has ended."""
    if status == "Done" or "Error" in status:
        return None
    return int(status["InProgress"]["V1"]["completed"]) if status["InProgress"] else 0


def plan(status: Any) -> Any:
    if status == "Done" or "Error" in status or not status["InProgress"]:
        return None
    v1 = status["InProgress"]["V1"]
    return v1["jobs"], v1["import_plan_hash"], v1["job_soft_size_limit"]


def may_follow(before: Any, now: Any) -> bool:
    """I3 and I6, for what is recorded."""
    was, is_ = completed(before), completed(now)
    if was is None or before == now:
        return bool(before == now)
    if is_ is None:
        return True
    return is_ >= was and plan(before) in (None, plan(now))


def expected_error(statuses: Statuses) -> str | None:
    errors = {shard: s["Error"] for shard, s in sorted(statuses.items()) if s != "Done" and "Error" in s}
    return json.dumps(errors, separators=(",", ":")) if errors else None


@dataclass
class Tenant:
    id: str
    shards: list[str]
    attached: bool = True
    deleted: bool = False


@dataclass
class Import:
    tenant: Tenant
    timeline: str
    seen: Statuses = field(default_factory=dict)
    deleted: bool = False
    told_when_deleted: int = 0


class ControllerMachine(RuleBasedStateMachine):
    """The model knows what was asked for; what became of it is read from the database after each step."""

    imports = Bundle("imports")
    make_cloud: Callable[..., Cloud]

    @initialize(target=imports)
    def start(self) -> Any:
        """Two tenants, one of them sharded, each with an import."""
        self.cloud = self.make_cloud(nodes=2)
        self.all_tenants: list[Tenant] = []
        self.all_imports: list[Import] = []
        self.issued: dict[str, int] = {}
        return multiple(*(self._new_import(self._new_tenant(shards)) for shards in (2, 0)))

    # What clients do. Whoever gets no answer starts the controller again and repeats.

    def _answer(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The first answer that is not a 503."""

        def once() -> Any:
            status, answer = self.cloud.api.call(method, path, body)
            return None if status == 503 else (status, answer)

        answer: tuple[int, Any] = self.cloud.until(once, f"an answer to {method} {path}")
        return answer

    def _settle(self) -> None:
        """Until nothing is under way that will end by itself."""
        self.cloud.until(lambda: self.cloud.api.ok("POST", "/debug/v1/reconcile_all") == 0, "reconciles")
        self.cloud.until(self._everything_told, "complete imports to be told")

    def _everything_told(self) -> bool:
        rows = self._rows()
        for one in self.all_imports:
            statuses = rows.get(one.timeline)
            if statuses is None or any(completed(status) is not None for status in statuses.values()):
                continue
            if one.tenant.attached or expected_error(statuses) is not None:
                return False
        return True

    def _rows(self) -> dict[str, Statuses]:
        return dict(self.cloud.query("SELECT timeline_id, shard_statuses FROM timeline_imports"))

    # Tenants

    def _new_tenant(self, shards: int) -> Tenant:
        tenant_id = f"{len(self.all_tenants) + 1:032x}"
        body: dict[str, Any] = {"new_tenant_id": tenant_id}
        if shards:
            body["shard_parameters"] = {"count": shards, "stripe_size": 2048}
        assert self._answer("POST", "/v1/tenant", body)[0] == 201
        ids = [tenant_id] if not shards else [f"{tenant_id}-{n:02x}{shards:02x}" for n in range(shards)]
        tenant = Tenant(tenant_id, ids)
        self.all_tenants.append(tenant)
        return tenant

    @rule(one=imports, placement=st.sampled_from(["Detached", "Attached", "Attached", "both"]))
    def detach_or_attach(self, one: Import, placement: str) -> None:
        """Or both, before the first has been carried out."""
        if placement != "Attached":
            self._set_policy(one.tenant, "Detached")
        if placement != "Detached":
            self._set_policy(one.tenant, {"Attached": 0})

    def _set_policy(self, tenant: Tenant, placement: Any) -> None:
        status, _ = self._answer("PUT", f"/control/v1/tenant/{tenant.id}/policy", {"placement": placement})
        assert status == (404 if tenant.deleted else 200)
        tenant.attached = placement != "Detached" and not tenant.deleted

    @rule(one=imports, index=st.integers(0, 1), node=st.integers(1, 2))
    def migrate(self, one: Import, index: int, node: int) -> None:
        self._migrate(one.tenant, index, node)

    def _migrate(self, tenant: Tenant, index: int, node: int) -> None:
        shard = tenant.shards[index % len(tenant.shards)]
        body = {"node_id": node, "migration_config": {"prewarm": False, "override_scheduler": True}}
        status, _ = self._answer("PUT", f"/control/v1/tenant/{shard}/migrate", body)
        if tenant.deleted:
            assert status == 404
        elif tenant.attached:
            # A failpoint's death in the middle of it may come to light as a failed reconcile.
            assert status in (200, 500)
        else:
            assert status == 400

    @rule(one=imports, certainly=st.sampled_from([False, False, True]))
    def delete_tenant(self, one: Import, certainly: bool) -> None:
        if certainly:
            self._delete_tenant(one.tenant)

    def _delete_tenant(self, tenant: Tenant) -> None:
        status, _ = self._answer("DELETE", f"/v1/tenant/{tenant.id}")
        # 404 too if the first try was carried out and its answer lost.
        assert status in ((404,) if tenant.deleted else (200, 404))
        tenant.deleted, tenant.attached = True, False
        for one in self.all_imports:
            if one.tenant is tenant:
                self._mark_deleted(one)

    # Imports

    def _create(self, tenant: Tenant, timeline: str, key: str) -> int:
        body = self.cloud.import_body(timeline, key)

        def once() -> Any:
            status, _ = self.cloud.api.call("POST", f"/v1/tenant/{tenant.id}/timeline", body)
            return None if status == 503 else status

        return int(self.cloud.until(once, f"the creation of {timeline}"))

    def _new_import(self, tenant: Tenant) -> Import:
        timeline = f"{len(self.all_imports) + 0x100:032x}"
        assert self._create(tenant, timeline, "key") == 201
        one = Import(tenant, timeline)
        self.all_imports.append(one)
        return one

    @rule(target=imports, beside=imports)
    def create_import(self, beside: Import) -> Any:
        """Of the same tenant."""
        tenant = beside.tenant
        if len(self.all_imports) == 5:
            return multiple()
        if tenant.attached:
            return self._new_import(tenant)
        assert self._create(tenant, "ff" * 16, "key") == (404 if tenant.deleted else 409)
        return multiple()

    @rule(one=imports, key=st.sampled_from(["key", "other key"]))
    def create_again(self, one: Import, key: str) -> None:
        if one.deleted:
            return
        status = self._create(one.tenant, one.timeline, key)
        assert status == ((201 if key == "key" else 409) if one.tenant.attached else 409)

    @rule(
        one=imports,
        index=st.integers(0, 1),
        status=reports,
        offset=st.sampled_from([0, 0, 0, -1, 1]),
    )
    def report(self, one: Import, index: int, status: Any, offset: int) -> None:
        self._report(one, index, status, offset)

    def _report(self, one: Import, index: int, status: Any, offset: int) -> int:
        shard = one.tenant.shards[index % len(one.tenant.shards)]
        generation = (self.cloud.issued(shard)[0] or 0) + offset
        body = {
            "tenant_shard_id": shard,
            "timeline_id": one.timeline,
            "status": status,
            "generation": max(generation, 0),
        }
        before = self._rows().get(one.timeline)
        answer, _ = self._answer("POST", "/upcall/v1/timeline_import_status", body)
        note(f"{shard} {status} at {generation}: {answer}")
        if one.tenant.deleted:
            assert answer == 500
        elif offset:
            assert answer == 412
            assert self._rows().get(one.timeline) in (before, None)
        return answer

    @rule(one=imports, index=st.integers(0, 1), statuses=st.lists(checkpoints, min_size=2, max_size=4))
    def report_checkpoints(self, one: Import, index: int, statuses: list[Any]) -> None:
        """In any order."""
        for status in statuses:
            self._report(one, index, status, 0)
            if not one.deleted:
                self._look(one)

    @rule(
        one=imports,
        statuses=st.tuples(reports, reports),
        indices=st.tuples(st.integers(0, 1), st.integers(0, 1)),
        offsets=st.tuples(st.sampled_from([0, -1]), st.sampled_from([0, -1])),
    )
    def report_two_at_once(
        self, one: Import, statuses: tuple[Any, Any], indices: tuple[int, int], offsets: tuple[int, int]
    ) -> None:
        self.cloud.revive()
        with ThreadPoolExecutor(2) as pool:
            for status, index, offset in zip(statuses, indices, offsets, strict=True):
                shard = one.tenant.shards[index % len(one.tenant.shards)]
                generation = max((self.cloud.issued(shard)[0] or 0) + offset, 0)
                pool.submit(self.cloud.report, shard, one.timeline, status, generation)

    @rule(one=imports, index=st.integers(0, 1), status=reports, node=st.integers(1, 2))
    def report_while_the_shard_moves(self, one: Import, index: int, status: Any, node: int) -> None:
        self.cloud.revive()
        with ThreadPoolExecutor(1) as pool:
            shard = one.tenant.shards[index % len(one.tenant.shards)]
            generation = self.cloud.issued(shard)[0] or 0
            pool.submit(self.cloud.report, shard, one.timeline, status, generation)
            self._migrate(one.tenant, index, node)

    @rule(one=imports)
    def finish(self, one: Import) -> None:
        """Every shard is done, so that histories get to their end often enough."""
        for index in range(len(one.tenant.shards)):
            self._report(one, index, "Done", 0)

    @rule(one=imports)
    def delete_import(self, one: Import) -> None:
        status, _ = self._answer("DELETE", f"/v1/tenant/{one.tenant.id}/timeline/{one.timeline}")
        if one.tenant.attached:
            assert status == 200
            self._mark_deleted(one)
        else:
            assert status == (404 if one.tenant.deleted else 409)

    def _mark_deleted(self, one: Import) -> None:
        if not one.deleted:
            one.deleted = True
            one.told_when_deleted = len(self.cloud.told(one.timeline))

    # Trouble

    @rule(gently=st.booleans())
    def restart_controller(self, gently: bool) -> None:
        self.cloud.revive()
        assert self.cloud.controller is not None
        if gently:
            self.cloud.controller.terminate()
            self.cloud.controller.wait(10)
        self.cloud.restart_controller()

    @rule(point=st.sampled_from(ALL_POINTS), passes=st.integers(0, 2))
    def kill_controller_at(self, point: str, passes: int) -> None:
        """The next steps run into it."""
        self.cloud.revive()
        self.cloud.failpoint(point, f"{passes}*off->exit" if passes else "exit")

    @rule(node=st.integers(1, 2))
    def restart_pageserver(self, node: int) -> None:
        def once() -> bool:
            self.cloud.node(node).restart()
            return True

        self.cloud.until(once, f"node {node} to re-attach")
        path = f"/control/v1/node/{node}"
        self.cloud.until(lambda: self.cloud.api.ok("GET", path)["availability"] == "Active", f"node {node}")

    @rule(times=st.integers(1, 2))
    def control_plane_fails(self, times: int) -> None:
        self.cloud.control_plane.fail(times)

    # What holds after every step

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "cloud"):
            return
        self._settle()
        for one in self.all_imports:
            self._check_import(one)
        for tenant in self.all_tenants:
            self._check_tenant(tenant)
        assert self.cloud.violations == []

    def _look(self, one: Import) -> tuple[bool, Statuses]:
        """Whether the import is finished, and its statuses, which may follow those seen before (I3, I6)."""
        by_timeline = "WHERE timeline_id = %s"
        ((finished, now),) = self.cloud.query(
            f"SELECT false, shard_statuses FROM timeline_imports {by_timeline} UNION ALL"
            f" SELECT true, shard_statuses FROM finished_imports {by_timeline}",
            one.timeline,
            one.timeline,
        )
        assert set(now) == {shard[33:] or "0000" for shard in one.tenant.shards}
        for shard, status in now.items():
            assert may_follow(one.seen.get(shard, {"InProgress": None}), status), (one, now)
        one.seen = now
        return finished, now

    def _check_import(self, one: Import) -> None:
        told = self.cloud.told(one.timeline)
        if one.deleted:
            # I9, and I7: nobody hears of it any more.
            for table in ("timeline_imports", "finished_imports"):
                assert self.cloud.query(f"SELECT 1 FROM {table} WHERE timeline_id = %s", one.timeline) == []
            assert len(told) == one.told_when_deleted
            for shard in one.tenant.shards:
                assert one.timeline not in self.cloud.remote.timelines(shard)
            return
        finished, now = self._look(one)
        if not finished:
            return
        # I7: told, with null only if every shard is done and active.
        assert told
        assert set(told) == {expected_error(now)}
        if told[0] is None:
            assert set(now.values()) == {"Done"}
            for shard in one.tenant.shards:
                assert self.cloud.remote.timelines(shard)[one.timeline].imported

    def _check_tenant(self, tenant: Tenant) -> None:
        if tenant.deleted:
            assert self.cloud.shards(tenant.id) == []
            return
        for shard in tenant.shards:
            generation, node = self.cloud.issued(shard)
            assert generation is not None
            assert generation >= self.issued.get(shard, 0)
            self.issued[shard] = generation
            holders = [n.id for n in self.cloud.nodes if shard in n.attached]
            assert holders == ([node] if tenant.attached else [])

    def teardown(self) -> None:
        """I10: whatever has happened, every import ends as soon as its shards do."""
        if not hasattr(self, "cloud"):
            return
        for tenant in self.all_tenants:
            if not tenant.deleted:
                self._set_policy(tenant, {"Attached": 0})
        self._settle()
        for one in self.all_imports:
            if not one.deleted:
                self.finish(one)
        self._settle()
        assert self._rows() == {}
        self.check()
        self.cloud.close()


@pytest.mark.timeout(3600 if EXAMPLES else 300)
def test_random_histories(make_cloud: MakeCloud) -> None:
    """I3, I4, I6, I7, I9, I10, and generations that rise and are durable before use."""

    class Machine(ControllerMachine):
        pass

    Machine.make_cloud = staticmethod(make_cloud)
    run_state_machine_as_test(Machine, settings=SETTINGS)

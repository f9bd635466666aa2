"""The workload helper on an endpoint of the initial timeline."""

from __future__ import annotations

import pytest

from reattach.fixtures.common_types import Lsn
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.pageserver.utils import wait_for_last_record_lsn
from reattach.fixtures.unsupported import Unsupported
from reattach.fixtures.utils import run_only_on_default_postgres
from reattach.fixtures.workload import Workload


@pytest.mark.endpoint
@run_only_on_default_postgres("the version is of no importance here")
def test_workload(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    with Workload(env, env.initial_tenant, env.initial_timeline) as workload:
        workload.init()
        lsn = workload.write_rows(100)
        workload.churn_rows(30)
        workload.validate()

        workload.endpoint().safe_psql(f"update {workload.table} set val = 'changed' where id = 7")
        with pytest.raises(AssertionError, match=r"1 rows of foo are wrong, such as id 7: expected 'churned"):
            workload.validate()

        assert isinstance(lsn, Lsn)
        client = env.pageserver.http_client()
        with pytest.raises(Unsupported, match="no WAL path"):
            wait_for_last_record_lsn(client, env.initial_tenant, env.initial_timeline, lsn)

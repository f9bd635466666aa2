"""What would do nothing is refused when it is said, with the names that were probably meant."""

from __future__ import annotations

import pytest

from reattach.api.bucket import Operation
from reattach.fixtures.bucket import BucketServer, Faults, RuleNeverFired
from reattach.fixtures.neon_fixtures import NeonEnv, NeonEnvBuilder
from reattach.fixtures.pageserver.http_session import PageserverApiException
from reattach.fixtures.processes import ProcessDied
from reattach.fixtures.remote_storage import RemoteStorageKind
from reattach.fixtures.storage_controller.types import StorageControllerApiException


def test_a_setting_that_there_is_not(neon_env_builder: NeonEnvBuilder) -> None:
    with pytest.raises(AttributeError, match="no setting 'num_pageserver'; did you mean 'num_pageservers'"):
        neon_env_builder.num_pageserver = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_pageservers", 2), ("storage_controller_config", {"max_offline": "1s"}), ("auth_enabled", True)],
)
def test_a_setting_that_comes_too_late(neon_env_builder: NeonEnvBuilder, name: str, value: object) -> None:
    neon_env_builder.init_configs()
    with pytest.raises(RuntimeError, match=f"{name} does nothing any more: the environment has been made"):
        setattr(neon_env_builder, name, value)
    neon_env_builder.preserve_database_files = False  # which counts later


def test_a_remote_storage_that_comes_too_late(neon_env_builder: NeonEnvBuilder) -> None:
    neon_env_builder.init_configs()
    with pytest.raises(RuntimeError, match="too late for another remote storage"):
        neon_env_builder.enable_pageserver_remote_storage(RemoteStorageKind.LOCAL_FS)


def test_a_setting_of_the_controller_that_nobody_knows(neon_env_builder: NeonEnvBuilder) -> None:
    """When it is assigned, and at the start if it was put into the dictionary."""
    near = "the storage controller has no setting 'max_ofline'; did you mean 'max_offline'?"
    with pytest.raises(ValueError, match=near):
        neon_env_builder.storage_controller_config = {"max_ofline": "5s"}
    assert neon_env_builder.storage_controller_config is not None
    neon_env_builder.storage_controller_config["max_ofline"] = "5s"
    env = neon_env_builder.init_configs()
    with pytest.raises(ValueError, match=near):
        env.storage_controller.start()


def test_a_failpoint_that_there_is_not(neon_simple_env: NeonEnv) -> None:
    near = "there is no failpoint 'before-upload-indx'; did you mean 'before-upload-index'"
    with pytest.raises(PageserverApiException, match=near):
        neon_simple_env.pageserver.http_client().configure_failpoints(("before-upload-indx", "pause"))
    near = "there is no failpoint 'reconciler-epilog'; did you mean 'reconciler-epilogue'"
    with pytest.raises(StorageControllerApiException, match=near):
        neon_simple_env.storage_controller.configure_failpoints(("reconciler-epilog", "return"))


def test_a_failpoint_that_there_is_not_at_the_start(neon_simple_env: NeonEnv) -> None:
    pageserver = neon_simple_env.pageserver
    pageserver.stop()
    with pytest.raises(ProcessDied, match="there is no failpoint 'no-such-point'"):
        pageserver.start(extra_env_vars={"FAILPOINTS": "no-such-point=pause"})


def test_a_fault_without_an_action(bucket_server: BucketServer, bucket_faults: Faults) -> None:
    bucket_faults.on(Operation.GET_OBJECT, key="k")
    with pytest.raises(
        RuleNeverFired, match=r"nothing was to happen to these requests(.|\n)*GetObject key='k'"
    ):
        bucket_server.finish_test()
    bucket_server.finish_test()  # it is told once


def test_a_fault_on_what_there_is_not(bucket_faults: Faults) -> None:
    with pytest.raises(ValueError, match="no operation 'GetObjekt'; did you mean 'GetObject'"):
        bucket_faults.on("GetObjekt")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a rule cannot match by sufix; did you mean 'suffix'\?"):
        bucket_faults.on(sufix="_fsm")  # type: ignore[call-arg]

"""The witness and S3: what a client sees at each crash point, and what the history says of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from reattach.api.effects import Phase
from reattach.api.history import Answered, Arrived, Dropped, Ended, Happened, Performed, Read, Started
from reattach.api.plan import InFlight, PlanError, Step
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.processes import Launcher, Process
from reattach.fixtures.waiting import wait_until
from reattach.fixtures.witness.world import World

PUT = "loader > s3: put-object a"

CLIENT = """
import sys, time, botocore.session
from botocore.config import Config
client = botocore.session.get_session().create_client(
    "s3", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id=sys.argv[2],
    aws_secret_access_key="x", config=Config(retries={"max_attempts": 0}))
for key in sys.argv[4:]:
    client.put_object(Bucket=sys.argv[3], Key=key, Body=b"of " + key.encode())
    print("put", key, flush=True)
"""


@pytest.fixture
def world(bucket_server: BucketServer, test_output_dir: Path) -> Iterator[World]:
    made = World(bucket_server.control, "test", test_output_dir / "history.jsonl")
    yield made
    made.close()


@pytest.fixture
def bucket(bucket_server: BucketServer, test_output_dir: Path) -> str:
    name = test_output_dir.name.lower().replace("_", "-").replace("[", "-").replace("]", "")[:60]
    bucket_server.create_bucket(name)
    return name


@pytest.fixture
def run(
    launcher: Launcher, bucket_server: BucketServer, world: World, bucket: str, test_output_dir: Path
) -> Callable[..., Process]:
    """Starts a process that puts objects, one after the other."""
    key = world.add_client("loader")

    def start(*keys: str) -> Process:
        process = launcher.start(
            "loader",
            [sys.executable, "-c", CLIENT, bucket_server.endpoint, key, bucket, *keys],
            log_path=test_output_dir / "loader.log",
        )
        world.process_started("loader", process.pid)
        return process

    return start


def held(world: World) -> tuple[str, ...]:
    return tuple(name for step in world.steps().steps for name in step.held)


def exists(server: BucketServer, bucket: str, key: str) -> bool:
    try:
        server.get(bucket, key)
    except FileNotFoundError:
        return False
    return True


def test_an_effect_is_written_phase_by_phase(world: World, bucket_server: BucketServer, bucket: str) -> None:
    client = bucket_server.client(world.add_client("loader"))
    client.put_object(Bucket=bucket, Key="a", Body=b'{"completed": 4}')
    client.get_object(Bucket=bucket, Key="a")["Body"].read()
    lines = world.history().lines[1:]
    arrived, performed, answered, read = lines
    assert isinstance(arrived, Arrived) and arrived.name == f"{PUT} #1"
    assert arrived.request["body"] == {"completed": 4}
    assert isinstance(performed, Performed) and performed.status == 200
    assert isinstance(answered, Answered) and answered.effect == arrived.effect
    assert isinstance(read, Read) and read.name == "loader > s3: get-object a"


def test_who_goes_while_it_is_carried_out(world: World, bucket_server: BucketServer, bucket: str) -> None:
    """Large bodies are digested by a thread meanwhile; the effect has an end all the same."""
    size = 8 << 20
    credential = f"Credential={world.add_client('loader')}/20250101/us-east-1/s3/aws4_request"
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=10) as connection:
        connection.sendall(
            f"PUT /{bucket}/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0\r\n\r\n".encode()
        )
        connection.sendall(bytes(size))

    def over() -> None:
        (effect,) = world.history().effects()
        assert effect.performed is not None
        assert effect.dropped is not None and effect.dropped.why == "the sender is gone"

    wait_until(over, timeout=10)


def test_what_comes_before_the_pid_is_known(world: World, bucket_server: BucketServer, bucket: str) -> None:
    """It is of the process that was about to start, and not of the one before it, which is dead."""
    first = subprocess.Popen([sys.executable, "-c", ""])
    world.process_starting("loader")
    world.process_started("loader", first.pid)
    world.process_ended("loader", first.wait())
    world.process_starting("loader")
    client = bucket_server.client(world.add_client("loader"))
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    world.process_started("loader", os.getpid())
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    lines = world.history().lines
    assert [line.incarnation for line in lines if isinstance(line, Started)] == [1, 2]
    assert [line.incarnation for line in lines if isinstance(line, Arrived)] == [2, 2]


def test_a_line_that_is_being_written_comes_next(world: World) -> None:
    """Only of a witness that has ended it says that something is missing."""
    with world.history_path.open("ab") as history:
        history.write(b'{"line":"mark","wh')
    assert not world.history().truncated
    world.close()
    assert world.history().truncated


def test_others_are_not_in_it(world: World, bucket_server: BucketServer, bucket: str) -> None:
    bucket_server.client().put_object(Bucket=bucket, Key="a", Body=b"")
    assert len(world.history().lines) == 1


@pytest.mark.parametrize(("when", "there"), [(Phase.BEFORE, False), (Phase.AFTER, True)])
def test_kill(
    world: World,
    run: Callable[..., Process],
    bucket_server: BucketServer,
    bucket: str,
    when: Phase,
    there: bool,
) -> None:
    """Before: dead, and nothing is in the bucket. After: dead, and it is."""
    world.add_steps([Step(at=f"{PUT} #1", when=when, do=("kill loader",))])
    process = run("a", "b")
    assert process.wait(30) == -signal.SIGKILL
    assert world.steps(happened=1, timeout=10).happened == 1
    assert exists(bucket_server, bucket, "a") is there
    assert not exists(bucket_server, bucket, "b")
    lines = world.history().lines
    kinds = [type(line) for line in lines if not isinstance(line, Read)]
    assert Happened in kinds and kinds.index(Happened) < kinds.index(Ended) < kinds.index(Dropped)
    (ended,) = [line for line in lines if isinstance(line, Ended)]
    assert (ended.process, ended.code, ended.incarnation) == ("loader", -9, 1)


def test_a_killed_process_is_dead_before_anything_else_passes(
    world: World, run: Callable[..., Process], bucket_server: BucketServer, bucket: str
) -> None:
    world.add_steps([Step(at=f"{PUT} #1", when=Phase.AFTER, do=("kill loader", "hold"))])
    process = run("a")
    world.steps(happened=1, timeout=10)
    assert not psutil.pid_exists(process.pid) or psutil.Process(process.pid).status() == "zombie"


@pytest.mark.parametrize("in_flight", InFlight)
def test_what_it_had_in_flight(
    world: World,
    run: Callable[..., Process],
    bucket_server: BucketServer,
    bucket: str,
    in_flight: InFlight,
) -> None:
    """What a killed process has sent is dropped or performed, as the plan says."""
    other = bucket_server.client(world.add_client("other"))
    world.add_steps([Step(at=f"{PUT} #1", when=Phase.BEFORE, do=("hold",))])
    process = run("a")
    world.steps(happened=1, timeout=10)
    kill = Step(at="other > s3: put-object b #1", when=Phase.AFTER, do=("kill loader",), in_flight=in_flight)
    world.add_steps([kill])
    other.put_object(Bucket=bucket, Key="b", Body=b"")
    assert process.wait(10) == -signal.SIGKILL
    world.clear_steps()

    def is_over() -> None:
        first = world.history().effects()[0]
        assert first.performed is not None or first.dropped is not None, "it is still under way"

    wait_until(is_over, timeout=10, interval=0.01)
    assert exists(bucket_server, bucket, "a") is (in_flight is InFlight.PERFORM)


def test_hold_stands_there_now(
    world: World, run: Callable[..., Process], bucket_server: BucketServer, bucket: str
) -> None:
    (step,) = world.add_steps([Step(at=f"{PUT} #1", when=Phase.AFTER, do=("hold",))]).steps
    process = run("a", "b")
    assert world.steps(happened=1, timeout=10).steps[0].held == (f"{PUT} #1",)
    assert exists(bucket_server, bucket, "a") and not exists(bucket_server, bucket, "b")
    world.release(step.id)
    assert process.wait(30) == 0
    assert held(world) == () and exists(bucket_server, bucket, "b")


def test_hold_until_another(world: World, bucket_server: BucketServer, bucket: str) -> None:
    """The one goes on when the other was performed, and not before."""
    one, two = bucket_server.client(world.add_client("one")), bucket_server.client(world.add_client("two"))
    world.add_steps(
        [
            Step(
                at="one > s3: put-object a #1",
                when=Phase.BEFORE,
                do=("hold until two > s3: put-object b",),
            )
        ]
    )
    thread = threading.Thread(target=lambda: one.put_object(Bucket=bucket, Key="a", Body=b""))
    thread.start()
    world.steps(happened=1, timeout=10)
    two.put_object(Bucket=bucket, Key="b", Body=b"")
    thread.join(30)
    performed = [
        e.name.of.actor for e in sorted(world.history().effects(), key=lambda e: e.performed_at or 0)
    ]
    assert performed == ["two", "one"]


def test_answers_and_lost_answers(
    world: World, run: Callable[..., Process], bucket_server: BucketServer, bucket: str
) -> None:
    world.add_steps([Step(at=f"{PUT} #1", when=Phase.BEFORE, do=("answer 503",))])
    assert run("a").wait(30) == 1
    assert not exists(bucket_server, bucket, "a")
    world.add_steps([Step(at=f"{PUT} +1", when=Phase.AFTER, do=("lose answer",))])
    assert run("a").wait(30) == 1
    assert exists(bucket_server, bucket, "a")
    effects = world.history().effects()
    assert [(e.performed is not None, e.answered is not None) for e in effects] == [
        (False, True),
        (True, False),
    ]
    starts = [line.incarnation for line in world.history().lines if isinstance(line, Started)]
    assert starts == [1, 2] and [e.arrived.incarnation for e in effects] == [1, 2]


def test_a_chain_goes_step_by_step(world: World, run: Callable[..., Process]) -> None:
    """A step is armed once the one before has happened; the history counts on."""
    world.add_steps(
        [
            Step(at=f"{PUT} #2", when=Phase.BEFORE, do=("kill loader",)),
            Step(at=f"{PUT} +1", when=Phase.AFTER, do=("kill loader",)),
        ]
    )
    assert run("a").wait(30) == 0
    assert run("a").wait(30) == -9
    assert run("a").wait(30) == -9
    assert [step.effects for step in world.steps().steps] == [(f"{PUT} #2",), (f"{PUT} #3",)]


def test_equal_seeds_hit_equal_effects(
    world: World, bucket_server: BucketServer, bucket: str, test_output_dir: Path
) -> None:
    def hit(number: int, seed: int) -> list[str]:
        one = World(bucket_server.control, "one", test_output_dir / f"history{number}.jsonl")
        client = bucket_server.client(one.add_client("loader"))
        one.add_steps(
            [Step(at=PUT, when=Phase.BEFORE, do=("heal loader s3",))],
            chain=False,
            times=None,
            probability=0.5,
            seed=seed,
        )
        for _ in range(16):
            client.put_object(Bucket=bucket, Key="a", Body=b"")
        (step,) = one.steps().steps
        one.close()
        return list(step.effects)

    first = hit(1, 7)
    assert 0 < len(first) < 16
    assert hit(2, 7) == first
    assert hit(3, 8) != first


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (Step(at="pageserver > s3: put-object a #1", when=Phase.BEFORE, do=("hold",)), "loader > s3"),
        (Step(at="nonsense", when=Phase.BEFORE, do=("hold",)), "is no name of effects"),
        (Step(at=f"{PUT} #1", when=Phase.BEFORE, do=()), "does nothing"),
        (Step(at=f"{PUT} #1", when=Phase.AFTER, do=("drop",)), "has been performed by then"),
        (Step(at=f"{PUT} #1", when=Phase.BEFORE, do=("kill leader",)), "loader"),
    ],
)
def test_what_cannot_happen_is_refused(world: World, step: Step, says: str) -> None:
    world.add_client("loader")
    with pytest.raises(PlanError, match=says):
        world.add_steps([step])
    assert world.steps().steps == ()


def test_partition(world: World, bucket_server: BucketServer, bucket: str) -> None:
    """Nothing passes in that direction until it is healed."""
    one = bucket_server.client(world.add_client("one"))
    world.add_steps([Step(at="one > s3: put-object a #1", when=Phase.AFTER, do=("partition one s3",))])
    one.put_object(Bucket=bucket, Key="a", Body=b"")
    thread = threading.Thread(target=lambda: one.put_object(Bucket=bucket, Key="b", Body=b""))
    thread.start()
    while world.state().effects < 2:
        pass
    assert not exists(bucket_server, bucket, "b")
    world.clear_steps()
    thread.join(30)
    assert exists(bucket_server, bucket, "b")


def test_a_step_may_look_into_the_request(world: World, bucket_server: BucketServer, bucket: str) -> None:
    client = bucket_server.client(world.add_client("loader"))
    world.add_steps(
        [Step(at=f"{PUT} +1", when=Phase.AFTER, do=("heal loader s3",), where=r'"completed":(?!4\b)\d+')]
    )
    for completed in (4, 8):
        client.put_object(Bucket=bucket, Key="a", Body=b'{"completed": %d}' % completed)
    assert world.steps().steps[0].effects == (f"{PUT} #2",)


def test_a_step_of_a_chain_waits_for_the_next_effect(
    world: World, run: Callable[..., Process], bucket_server: BucketServer, bucket: str
) -> None:
    """What happens at one effect does not make the next step happen there, too, but at its other point."""
    put = "loader > s3: put-object *"
    steps = [
        Step(at=f"{put} +1", when=Phase.BEFORE, do=("hold until loader > s3: get-object x",)),
        Step(at=f"{put} +1", when=Phase.BEFORE, do=("kill loader",)),
    ]
    world.add_steps(steps)
    process = run("a", "b")
    state = world.steps(happened=1, timeout=10)
    assert [len(step.effects) for step in state.steps] == [1, 0]
    assert process.is_running()


@pytest.mark.parametrize("in_flight", InFlight)
def test_what_comes_late_of_a_killed_process_is_in_flight(
    world: World,
    run: Callable[..., Process],
    bucket_server: BucketServer,
    bucket: str,
    in_flight: InFlight,
) -> None:
    """I13: bytes that were in a socket's buffer at its end are dropped or performed as well, and nobody hears
    of it.
    """
    kills = [
        Step(
            at=f"loader > s3: put-object {key} +1",
            when=Phase.BEFORE,
            do=("kill loader",),
            in_flight=in_flight,
        )
        for key in "ac"
    ]
    world.add_steps(kills)
    run("a").wait(10)
    authorization = (
        f"AWS4-HMAC-SHA256 Credential=loader.{world.state().id}/20260101/us-east-1/s3/aws4_request"
    )
    headers = {"Authorization": authorization}
    with contextlib.suppress(OSError):
        bucket_server.control.request("PUT", f"/{bucket}/b", b"late", headers=headers)
    assert exists(bucket_server, bucket, "b") is (in_flight is InFlight.PERFORM)
    late = world.history().effects()[1]
    assert late.dropped is not None
    assert (late.performed is not None) is (in_flight is InFlight.PERFORM)
    assert late.answered is None


def test_of_rivals_the_first_takes_all(world: World, bucket_server: BucketServer, bucket: str) -> None:
    client = bucket_server.client(world.add_client("loader"))
    rivals = [
        Step(at=f"loader > s3: put-object {key} +1", when=Phase.BEFORE, do=(f"answer {status}",))
        for key, status in (("a", 409), ("b", 410))
    ]
    world.add_steps(rivals, chain=False, one_of=True)
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="b", Body=b"")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 410
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    (only,) = world.steps().steps
    assert only.step is not None and only.effects == ("loader > s3: put-object b #1",)
    with pytest.raises(PlanError, match="not both"):
        world.add_steps(rivals, one_of=True)


def test_who_has_gone_hears_nothing(world: World, bucket_server: BucketServer, bucket: str) -> None:
    """I13: it had sent the request before its end, however late the witness comes to it."""
    world.add_client("loader")
    witness = psutil.Process(bucket_server.control.health().pid)
    witness.suspend()
    try:
        address = (bucket_server.control.host, bucket_server.control.port)
        with socket.create_connection(address) as sender:
            credential = f"loader.{world._id}/20260101/us-east-1/s3/aws4_request"
            sender.sendall(
                f"PUT /{bucket}/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                f"Authorization: AWS4-HMAC-SHA256 Credential={credential}\r\n\r\nlate".encode()
            )
    finally:
        witness.resume()
    wait_until(lambda: bucket_server.get(bucket, "a"))
    (late,) = world.history().effects()
    assert late.performed is not None
    assert late.dropped is not None and late.answered is None

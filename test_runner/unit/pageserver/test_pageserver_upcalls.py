"""Import status upcalls: what is repeated, and what ends an import."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

import pytest

from reattach.api import codec
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress, ShardImportStatus
from reattach.pageserver import upcalls
from reattach.pageserver.import_pgdata.errors import ImportFailed, ImportInterrupted
from reattach.pageserver.upcalls import ControllerClient, ImportStatusClient
from reattach.runtime.http_client import HttpResponse, TransportError

T = TypeVar("T")

PROGRESS = InProgress(ShardImportProgress(10, 4, 7, 8))
Answer = tuple[int, object] | TransportError


class Script:
    """Answers calls one after another and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.calls: list[str] = []

    async def request_json(self, method: str, url: str, **_: object) -> HttpResponse:
        self.calls.append(method)
        answer = self.answers.pop(0)
        if isinstance(answer, TransportError):
            raise answer
        status, body = answer
        return HttpResponse(status, {}, body if isinstance(body, bytes) else codec.encode(body))


class MakeClient(Protocol):
    def __call__(self, script: Script, *, is_recorded: bool = False) -> ImportStatusClient: ...


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MakeClient:
    def make(script: Script, *, is_recorded: bool = False) -> ImportStatusClient:
        monkeypatch.setattr(upcalls, "request_json", script.request_json)
        monkeypatch.setattr(upcalls, "_FIRST_DELAY_SECONDS", 0.0)
        controller = ControllerClient("http://127.0.0.1/", None)
        shard = TenantShardId.unsharded(TenantId.generate())
        return ImportStatusClient(controller, shard, TimelineId.generate(), 3, is_recorded=is_recorded)

    return make


def put(client: ImportStatusClient, status: ShardImportStatus) -> None:
    asyncio.run(client.put_status(status))


def test_get_repeats_whatever_the_answer(client: MakeClient) -> None:
    script = Script(
        (404, {"msg": "not yet"}),
        TransportError("refused"),
        (400, {"msg": "Invalid generation"}),
        (200, b""),
        (200, b"nonsense"),
        (200, {"InProgress": {"V2": {}}}),
        (200, {"InProgress": None}),
    )
    status = client(script)
    assert asyncio.run(status.get_status()) == InProgress(None)
    assert script.calls == ["GET"] * 7
    assert status.recorded == InProgress(None)


def test_put_repeats_what_may_succeed_later(client: MakeClient) -> None:
    """I10: a controller that is away, or in the middle of handing over, is asked again."""
    script = Script((404, None), (412, None), (503, None), TransportError("reset"), (200, None))
    status = client(script)
    put(status, PROGRESS)
    assert script.calls == ["POST"] * 5
    assert status.recorded == PROGRESS


def test_put_that_was_taken_although_the_answer_says_otherwise(
    client: MakeClient,
) -> None:
    script = Script((500, None), (200, Done()))
    status = client(script)
    put(status, Done())
    assert script.calls == ["POST", "GET"]
    assert status.recorded == Done()


def test_put_to_an_import_that_has_ended(client: MakeClient) -> None:
    """I6, I11: a result is final; whoever comes with another one stops asking."""
    script = Script((500, {"msg": "Update request is unexpected"}), (200, Error("broken")))
    status = client(script)
    with pytest.raises(ImportInterrupted, match="the import has ended"):
        put(status, PROGRESS)
    assert status.recorded == Error("broken")


def test_put_that_the_controller_will_not_have(client: MakeClient) -> None:
    """I11: a refusal with a reason ends the import with that reason."""
    script = Script((409, {"msg": "Conflict: another plan"}), (200, PROGRESS))
    with pytest.raises(ImportFailed, match="another plan"):
        put(client(script), InProgress(ShardImportProgress(11, 4, 9, 8)))


def test_put_while_the_controller_stumbles(client: MakeClient) -> None:
    """An error of the controller that says nothing about the update is no refusal."""
    script = Script(
        (500, None), (400, {"msg": "Invalid generation"}), (500, None), (200, PROGRESS), (200, None)
    )
    put(client(script), Done())
    assert script.calls == ["POST", "GET", "POST", "GET", "POST"]


NOT_FOUND: Answer = (404, {"msg": "NotFound: import not found"})


def test_get_of_an_import_that_is_gone(client: MakeClient) -> None:
    """I11: an earlier attachment saw the row, so it will not come; nobody asks for ever."""
    script = Script((404, None), (503, None), NOT_FOUND, NOT_FOUND, NOT_FOUND)
    with pytest.raises(ImportInterrupted, match=r"has forgotten the import: .*import not found"):
        asyncio.run(client(script, is_recorded=True).get_status())
    assert script.calls == ["GET"] * 5


def test_put_to_an_import_that_is_gone(client: MakeClient) -> None:
    """I11: a report that was taken shows that there was a row, and then there is none."""
    script = Script((200, InProgress(None)), NOT_FOUND, TransportError("reset"), *[NOT_FOUND] * 3)
    status = client(script)

    async def body() -> None:
        await status.get_status()
        await status.put_status(PROGRESS)

    with pytest.raises(ImportInterrupted, match="has forgotten the import"):
        asyncio.run(body())
    assert script.calls == ["GET"] + ["POST"] * 5
    assert status.recorded == InProgress(None)


def test_get_of_an_import_that_never_was(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """I10, I11: a row that was never seen may come late, but not at any time."""
    monkeypatch.setattr(upcalls, "_NEVER_RECORDED_SECONDS", 0.2)
    script = Script(*[NOT_FOUND] * 10)
    status = client(script)
    monkeypatch.setattr(upcalls, "_FIRST_DELAY_SECONDS", 0.005)
    with pytest.raises(ImportInterrupted, match="never recorded the import"):
        asyncio.run(status.get_status())
    assert len(script.calls) > 3

"""The order of uploads, whatever is asked for and however long each operation takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from reattach.pageserver.remote.upload_order import (
    DeleteLayers,
    Operation,
    UploadIndex,
    UploadLayer,
    UploadOrder,
)

Index = tuple[int, frozenset[str]]
"""A serial number and the paths that it references."""

NAMES = ("a", "b", "c", "d")
INTENTIONS = st.sampled_from(["add", "unlink", "replace", "index"])


@dataclass
class Remote:
    """Remote storage, as anyone may see it at any moment."""

    objects: set[str] = field(default_factory=set)
    index: Index = (0, frozenset())
    uploading: set[str] = field(default_factory=set)

    def check(self) -> None:
        serial, references = self.index
        assert references <= self.objects, f"index {serial} references missing objects"
        assert not references & self.uploading, f"index {serial} references an object that is being written"

    def begin(self, operation: Operation[Index]) -> None:
        if isinstance(operation, UploadLayer):
            assert operation.path not in self.uploading, "two uploads of one object at a time"
            self.uploading.add(operation.path)
        self.check()

    def complete(self, operation: Operation[Index]) -> None:
        match operation:
            case UploadLayer(path):
                self.uploading.discard(path)
                self.objects.add(path)
            case UploadIndex(snapshot):
                assert snapshot[0] > self.index[0], "an older index replaced a newer one"
                self.index = snapshot
            case DeleteLayers(paths):
                self.objects -= paths
        self.check()


@dataclass
class Timeline:
    """Asks for uploads the way a timeline does."""

    order: UploadOrder[Index] = field(default_factory=UploadOrder)
    layers: set[str] = field(default_factory=set)
    serial: int = 0

    def upload_index(self) -> None:
        self.serial += 1
        self.order.push(UploadIndex((self.serial, frozenset(self.layers))))

    def intend(self, what: str, name: str) -> None:
        if what == "index":
            self.upload_index()
        elif name not in self.layers and what == "add":
            self.layers.add(name)
            self.order.push(UploadLayer(name))
        elif name in self.layers and what == "unlink":
            self.layers.discard(name)
            self.upload_index()
            self.order.push(DeleteLayers(frozenset([name])))
        elif name in self.layers and what == "replace":
            self.intend("unlink", name)
            self.intend("add", name)


@settings(max_examples=300)
@given(st.data())
def test_remote_storage_is_consistent_at_every_moment(data: st.DataObject) -> None:
    """I2: an index in remote storage references only whole objects, and never goes back."""
    timeline, remote = Timeline(), Remote()
    running: dict[int, Operation[Index]] = {}

    def step(choice: str) -> None:
        if choice == "start":
            ticket = data.draw(st.sampled_from(timeline.order.startable()))
            operation = timeline.order.start(ticket)
            running[ticket] = operation
            remote.begin(operation)
        elif choice == "finish":
            ticket = data.draw(st.sampled_from(sorted(running)))
            remote.complete(running.pop(ticket))
            timeline.order.finish(ticket)
        else:
            timeline.intend(data.draw(INTENTIONS), data.draw(st.sampled_from(NAMES)))

    def choices() -> list[str]:
        possible = ["start"] if timeline.order.startable() else []
        return possible + (["finish"] if running else [])

    for _ in range(data.draw(st.integers(0, 30))):
        step(data.draw(st.sampled_from(["intend", *choices()])))
    timeline.upload_index()
    while choices():
        step(data.draw(st.sampled_from(choices())))
    assert len(timeline.order) == 0, "operations are left that nothing lets start"
    assert remote.index == (timeline.serial, frozenset(timeline.layers))
    assert remote.objects == timeline.layers


def test_layer_uploads_run_side_by_side() -> None:
    order: UploadOrder[int] = UploadOrder()
    tickets = [order.push(UploadLayer(name)) for name in NAMES]
    assert order.startable() == tickets


def test_index_waits_for_layers_before_it_only() -> None:
    order: UploadOrder[int] = UploadOrder()
    layer = order.push(UploadLayer("a"))
    index = order.push(UploadIndex(1))
    later = order.push(UploadLayer("b"))
    assert order.startable() == [layer, later]
    order.start(layer)
    order.finish(layer)
    assert order.startable() == [index, later]


def test_queued_index_uploads_coalesce_into_the_last() -> None:
    order: UploadOrder[int] = UploadOrder()
    running = order.push(UploadIndex(1))
    order.start(running)
    waiting = [order.push(UploadIndex(n)) for n in (2, 3, 4)]
    order.finish(running)
    assert order.startable() == waiting[:1]
    assert order.start(waiting[0]) == UploadIndex(4, calls=3)
    assert not order.done_up_to(waiting[-1])
    order.finish(waiting[0])
    assert order.done_up_to(waiting[-1])
    assert len(order) == 0


def test_index_uploads_do_not_coalesce_over_a_layer() -> None:
    order: UploadOrder[int] = UploadOrder()
    first = order.push(UploadIndex(1))
    order.push(UploadLayer("a"))
    order.push(UploadIndex(2))
    assert order.start(first) == UploadIndex(1)


def test_deletion_waits_for_the_index_that_unlinked() -> None:
    order: UploadOrder[int] = UploadOrder()
    index = order.push(UploadIndex(1))
    deletion = order.push(DeleteLayers(frozenset("a")))
    assert order.startable() == [index]
    order.start(index)
    assert order.startable() == []
    order.finish(index)
    assert order.startable() == [deletion]


def test_an_object_is_written_again_after_its_deletion() -> None:
    order: UploadOrder[int] = UploadOrder()
    index = order.push(UploadIndex(1))
    deletion = order.push(DeleteLayers(frozenset("a")))
    again = order.push(UploadLayer("a"))
    for ticket in (index, deletion, again):
        assert order.startable() == [ticket]
        order.start(ticket)
        order.finish(ticket)


def test_everything_up_to_a_ticket() -> None:
    order: UploadOrder[int] = UploadOrder()
    assert order.done_up_to(order.last_ticket)
    first = order.push(UploadLayer("a"))
    second = order.push(UploadLayer("b"))
    for ticket in (second, first):
        assert not order.done_up_to(second)
        order.start(ticket)
        order.finish(ticket)
    assert order.done_up_to(second)

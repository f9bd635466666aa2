"""Pictures: everything that happened is on them, and they stay small, whole and readable."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from reattach.api.effects import Front, Phase
from reattach.api.history import (
    HISTORY_VERSION,
    Arrived,
    Begin,
    Dropped,
    Ended,
    Happened,
    History,
    Line,
    Mark,
    Performed,
    Signalled,
    Started,
)
from reattach.fixtures.picture.lines import interruptions
from reattach.fixtures.picture.model import Bar, Interruption, Lane, Milestone, Picture, Row, Stretch
from reattach.fixtures.picture.page import page, picture_of
from reattach.fixtures.picture.svg import draw


def history(*lines: Line) -> History:
    return History((Begin(at=0, version=HISTORY_VERSION, time=0, world="a <b> & c"), *lines))


KILLED = history(
    Started(at=0.1, process="loader", pid=7, incarnation=1),
    Arrived(at=0.2, effect=1, name="loader > s3: put a #1", front=Front.S3, request={"key": "<script>"}),
    Happened(at=0.3, step=1, effect=1, phase=Phase.BEFORE, do=("kill loader",)),
    Signalled(at=0.3, process="loader", signal="SIGKILL", by="step 1"),
    Ended(at=0.4, process="loader", incarnation=1, code=-9),
    Dropped(at=0.4, effect=1, why="step 1: loader was killed"),
    Mark(at=0.5, what="interruption", text="detached by policy"),
    Started(at=0.6, process="loader", pid=8, incarnation=2),
    Ended(at=0.7, process="loader", incarnation=2),
    Arrived(at=0.8, effect=2, name="loader > s3: put a #2", front=Front.S3),
    Happened(at=0.8, step=2, effect=2, phase=Phase.AFTER, do=("hold",)),
    Performed(at=0.9, effect=2, status=200),
)


def test_every_interruption_is_told_once() -> None:
    assert [one.label for one in interruptions(KILLED)] == [
        "SIGKILL loader (step 1)",
        "detached by policy",
        "loader ended by itself",
    ]


def test_what_a_job_says_cannot_break_the_page() -> None:
    text = page(picture_of(KILLED))
    assert "<script>&" not in text and 'key":"<script>' not in text
    assert "&lt;script&gt;" in text and "a &lt;b&gt; &amp; c" in text


def test_one_file_without_a_network() -> None:
    text = page(picture_of(KILLED)).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text and "url(" not in text and "src=" not in text


def test_every_link_leads_somewhere() -> None:
    found: dict[str, set[str]] = {"href": set(), "id": set()}

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                if name in found and value is not None:
                    found[name].add(value.removeprefix("#"))

    Links().feed(page(picture_of(KILLED)))
    assert found["href"] and found["href"] <= found["id"]


def test_another_job_has_lanes_too() -> None:
    (lane,) = picture_of(KILLED).lanes
    assert lane.label == "loader to s3"
    assert [bar.end for bar in lane.bars] == [None, 0.9]


def large(shards: int, jobs: int, cuts: int) -> Picture:
    lanes = [
        Lane(
            f"shard {shard:02x}08",
            jobs,
            tuple(
                Bar(job, cut + job / jobs, cut + (job + 1) / jobs, cut > 0, f"job {job}", job)
                for cut in range(cuts)
                for job in range(1, jobs + 1)
            ),
            tuple(Stretch(cut, cut + 1, f"pageserver_1, generation {cut}") for cut in range(cuts)),
            (Milestone(1.0, jobs // 2, "half"), Milestone(cuts, jobs, "Done")),
        )
        for shard in range(shards)
    ]
    rows = tuple(Row(0.0, "x", "effect", number) for number in range(1, jobs + 1))
    return Picture(
        "large", 0, cuts, tuple(lanes), tuple(Interruption(cut, f"cut {cut}") for cut in range(cuts)), rows
    )


def test_200_jobs_8_shards_10_interruptions_fit() -> None:
    svg = ElementTree.fromstring(draw(large(8, 200, 10)))
    height, width = float(svg.attrib["height"]), float(svg.attrib["width"])
    assert width <= 1240 and height <= 8 * 440 + 200
    namespace = "{http://www.w3.org/2000/svg}"
    boxes = [e for e in svg.iter(f"{namespace}rect") if "bar" in e.attrib["class"]]
    assert len(boxes) == 8 * 200 * 10
    for box in boxes:
        assert 0 <= float(box.attrib["x"]) <= width and float(box.attrib["height"]) >= 1
        assert 0 <= float(box.attrib["y"]) <= height


@pytest.mark.parametrize("cuts", [1, 2, 10, 40])
def test_labels_of_interruptions_do_not_cover_each_other(cuts: int) -> None:
    picture = large(1, 10, cuts)
    places = re.findall(r'<text class="cut" x="([\d.]+)" y="([\d.]+)"', draw(picture))
    assert len(places) == cuts
    by_line: dict[str, list[float]] = {}
    for x, y in places:
        by_line.setdefault(y, []).append(float(x))
    for xs in by_line.values():
        assert all(later - earlier >= 200 for earlier, later in itertools.pairwise(xs))


def test_an_empty_history_has_a_page() -> None:
    assert "a &lt;b&gt;" in page(picture_of(history()))

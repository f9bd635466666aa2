"""Pictures: everything that happened is on them, and they stay small, whole and readable."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
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

SVG = "{http://www.w3.org/2000/svg}"


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
        "SIGKILL loader before loader > s3: put a #1",
        "detached by policy",
        "loader ended by itself",
    ]
    assert [one.effect for one in interruptions(KILLED)] == [1, None, None]


def test_a_step_is_called_by_what_it_did_and_where() -> None:
    lines = history(
        Arrived(at=0.2, effect=1, name="loader > s3: put a #1", front=Front.S3),
        Happened(at=0.3, step=4, effect=1, phase=Phase.AFTER, do=("lose answer",)),
    )
    (one,) = interruptions(lines)
    assert (one.label, one.effect) == ("lose answer after loader > s3: put a #1", 1)


def test_who_tidies_up_interrupts_nothing() -> None:
    killed = Signalled(at=2, process="loader", signal="SIGKILL", by="the test")
    assert len(interruptions(history(killed))) == 1
    assert interruptions(history(Mark(at=1, what="over"), killed)) == ()


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
            tuple(
                Stretch(cut, cut + 1, f"pageserver_1, generation {cut}", f"ps 1, gen {cut}")
                for cut in range(cuts)
            ),
            (Milestone(1.0, jobs // 2, "half"), Milestone(cuts, jobs, "Done")),
        )
        for shard in range(shards)
    ]
    rows = tuple(Row(0.0, "x", "effect", number) for number in range(1, jobs + 1))
    return Picture(
        "large", 0, cuts, tuple(lanes), tuple(Interruption(cut, f"cut {cut}") for cut in range(cuts)), rows
    )


def test_200_jobs_8_shards_10_interruptions_fit() -> None:
    svgs = ElementTree.fromstring(draw(large(8, 200, 10)))
    lanes = [svg for svg in svgs if svg.attrib["aria-label"].startswith("shard")]
    assert len(lanes) == 8
    assert all(float(svg.attrib["width"]) <= 1240 for svg in svgs)
    for svg in lanes:
        height, width = float(svg.attrib["height"]), float(svg.attrib["width"])
        assert height <= 440  # a page of paper has room for two
        boxes = [e for e in svg.iter(f"{SVG}rect") if "bar" in e.attrib["class"]]
        assert len(boxes) == 200 * 10
        for box in boxes:
            assert 0 <= float(box.attrib["x"]) <= width and float(box.attrib["height"]) >= 1
            assert 0 <= float(box.attrib["y"]) <= height
        texts = [e.text for e in svg.iter(f"{SVG}text")]
        assert [f"ps 1, gen {cut}" in texts for cut in range(10)] == [True] * 10
        assert [str(number) in texts for number in range(1, 11)] == [True] * 10


@pytest.mark.parametrize("cuts", [1, 2, 10, 40])
@pytest.mark.parametrize("characters", [7, 40, 90])
def test_labels_of_interruptions_do_not_cover_each_other(cuts: int, characters: int) -> None:
    """Nor do they leave the picture, unless they are as long as half of it."""
    picture = large(1, 10, cuts)
    named = tuple(replace(one, label="x" * characters) for one in picture.interruptions)
    texts = re.findall(
        r'<text class="cut" x="([\d.-]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]*)<',
        draw(replace(picture, interruptions=named)),
    )
    assert len(texts) == cuts
    by_line: dict[str, list[tuple[float, float]]] = {}
    for x, y, anchor, text in texts:
        width = 6 * len(text)
        start = float(x) if anchor == "start" else float(x) - width
        assert start >= 0 and start + width <= 1180
        by_line.setdefault(y, []).append((start, start + width))
    for extents in by_line.values():
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(sorted(extents)))


def test_an_empty_history_has_a_page() -> None:
    assert "a &lt;b&gt;" in page(picture_of(history()))

"""The documentation's Python is that of tested files in docs/examples/; its links lead somewhere."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = ROOT / "docs" / "examples"
EXAMPLES = [
    *sorted(_FOLDER.glob("test_*.py")),
    *(_FOLDER / "jobs" / f"test_{n}.py" for n in ("loader", "orders")),
]
"""Shown whole; those of other programs are not."""
SOURCES = [*EXAMPLES, _FOLDER / "jobs" / "loader.py"]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def paragraphs(block: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", textwrap.dedent(block).strip("\n")) if part.strip()]


def contains(example: str, paragraph: str) -> bool:
    """Whether the paragraph's lines follow each other in the example, all indented by as much."""
    wanted = [line.rstrip() for line in paragraph.splitlines()]
    lines = [line.rstrip() for line in example.splitlines()]
    for start in range(len(lines) - len(wanted) + 1):
        found = lines[start : start + len(wanted)]
        if textwrap.dedent("\n".join(found)) == textwrap.dedent("\n".join(wanted)):
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_tested(page: Path) -> None:
    texts = {example.name: example.read_text() for example in SOURCES}
    for block in _BLOCK.findall(page.read_text()):
        assert any(all(contains(text, p) for p in paragraphs(block)) for text in texts.values()), (
            f"{page.name} shows Python that no file of docs/examples has:\n{block}"
        )


def test_every_example_is_shown() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    tests = [
        name for file in EXAMPLES for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    ]
    hidden = [name for name in tests if f"def {name}(" not in shown]
    assert not hidden, f"no page shows {hidden}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            anchors = {slug(title) for title in re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)}
            assert anchor in anchors, f"{page.name} links to {link}; there are {sorted(anchors)}"


def slug(title: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_of_one_machine(page: Path) -> None:
    assert not re.search(r"/(?:tmp|root|work|home/(?!me\b))[/\w]", page.read_text()), page.name


def test_nothing_is_left_to_fill_in() -> None:
    for page in PAGES:
        assert "@@" not in page.read_text(), page.name

"""Earlier runs: a JSON object a line; and their figures drawn over time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _COLUMNS = 300, 110, 3
_LEFT, _TOP, _GAP = 10, 34, 24


def append(path: Path, report: dict[str, Any]) -> None:
    """Adds a report to the file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(report, separators=(",", ":")) + "\n")


def load(path: Path) -> list[dict[str, Any]]:
    """The reports, oldest first; none if there is no file. Raises ValueError for a broken line."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def plot(reports: list[dict[str, Any]]) -> str:
    """An SVG with a small chart for each row that any report has; each axis begins at zero."""
    series: dict[str, list[tuple[str, float]]] = {}
    units: dict[str, str] = {}
    for report in reports:
        for result in report["results"]:
            series.setdefault(result["what"], []).append((report["commit"], result["value"]))
            units[result["what"]] = result["unit"]
    rows = -(-len(series) // _COLUMNS)
    cell_width, cell_height = _WIDTH + _GAP, _HEIGHT + _TOP + _GAP
    charts = [
        _chart(what, units[what], points, (n % _COLUMNS) * cell_width, (n // _COLUMNS) * cell_height)
        for n, (what, points) in enumerate(series.items())
    ]
    width, height = _COLUMNS * cell_width, rows * cell_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(charts) + "\n</svg>\n"
    )


def _chart(what: str, unit: str, points: list[tuple[str, float]], left: float, top: float) -> str:
    highest = max((value for _, value in points), default=0) or 1
    step = (_WIDTH - 2 * _LEFT) / max(len(points) - 1, 1)
    places = [
        (left + _LEFT + step * n, top + _TOP + _HEIGHT * (1 - value / highest))
        for n, (_, value) in enumerate(points)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5">'
        f"<title>{escape(commit)}: {value:.4g} {unit}</title></circle>"
        for (x, y), (commit, value) in zip(places, points, strict=True)
    )
    bottom = top + _TOP + _HEIGHT
    return (
        f'<text x="{left + _LEFT}" y="{top + 14}">{escape(what)}</text>'
        f'<text x="{left + _LEFT}" y="{top + 28}" fill="#666">'
        f"last {points[-1][1]:.4g} {unit}, highest {highest:.4g} {unit}</text>"
        f'<line x1="{left + _LEFT}" y1="{bottom}" x2="{left + _WIDTH - _LEFT}" y2="{bottom}" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#1f77b4"/><g fill="#1f77b4">{dots}</g>'
    )

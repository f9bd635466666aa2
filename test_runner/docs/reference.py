"""Writes docs/reference.md: fixtures, options, environment variables, and the classes behind them; and
docs/points.md: what `reattach points` prints.

./scripts/reference            writes them
./scripts/reference --check    fails if they are not what would be written
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from textwrap import indent
from typing import Self

from reattach.fixtures.cli.main import COMMANDS
from reattach.fixtures.cli.points import page
from reattach.fixtures.pytest_plugin import entry
from reattach.fixtures.pytest_plugin.modules import FIXTURE_MODULES
from test_runner.docs import surface
from test_runner.docs.surface import ANSWERS, OF_THE_LIBRARY, ROOT, SECTIONS, Function, Module
from test_runner.docs.variables import VARIABLES

TARGET = ROOT / "docs" / "reference.md"
POINTS = ROOT / "docs" / "points.md"

WIDTH = 110

HEAD = """\
# Reference

Written by `./scripts/reference` from docstrings; change those, not this page. Fixtures and options come with
the plugin: a test names a fixture as an argument and imports nothing. Sizes are bytes and times seconds, if a
name does not say otherwise. What returns nothing is shown without a result.
"""


class Options:
    """Stands for pytest's parser, and remembers the options."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def getgroup(self, name: str) -> Self:
        return self

    def addoption(self, name: str, *, help: str, **kwargs: object) -> None:
        self.found[name] = help


def options() -> dict[str, str]:
    """The command line options of the plugin and what they do."""
    parser = Options()
    entry.pytest_addoption(parser)  # type: ignore[arg-type]
    return parser.found


def reference() -> str:
    """The whole page."""
    text = "\n".join([HEAD, *_fixtures(), *_options(), *_commands(), *_variables(), *_sections()])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _fixtures() -> Iterator[str]:
    yield "## Fixtures\n\nOf the test's own, if they are not per session.\n"
    for name in FIXTURE_MODULES:
        for node in surface.read(name).fixtures:
            shared = ", per session" if "scope='session'" in _decorated(node) else ""
            yield _entry(f"- **`{node.name}`**: `{_yielded(node)}`{shared}.", node)


def _options() -> Iterator[str]:
    yield "\n## Command line options\n\n| option | what it does |\n|---|---|"
    for name, help in options().items():
        yield f"| `{name}` | {help} |"
    yield "\nAll of pytest's own work too: `-k`, `--junitxml`, `--timeout`, `-n` (pytest-xdist), `--splits`"
    yield "and `--group` (pytest-split), `--alluredir` (allure-pytest)."


def _commands() -> Iterator[str]:
    yield "\n## Commands\n\n| `reattach …` | what it does; `--help` says more |\n|---|---|"
    for name, (_, text) in COMMANDS.items():
        yield f"| `{name}` | {text} |"


def _variables() -> Iterator[str]:
    yield "\n## Environment variables\n\n| variable | what it says |\n|---|---|"
    for name, text in VARIABLES.items():
        yield f"| `{name}` | {text} |"


def _sections() -> Iterator[str]:
    for title, names in SECTIONS.items():
        yield f"\n## {title}"
        for name in names:
            yield from _module(surface.read(name), OF_THE_LIBRARY.get(name, frozenset()))
    yield "\n## Answers\n"
    yield f"Calls that answer JSON have it typed, in {' and '.join(f'`{name}`' for name in ANSWERS)}."
    yield "Both servers describe it at `/openapi.json`, too."


def _module(module: Module, hidden: frozenset[str]) -> Iterator[str]:
    yield f"\n### `{module.name}`\n"
    for function in module.functions:
        if function.name not in hidden:
            yield _entry(f"- **`{surface.signature(function)}`**", function)
    for node in module.classes:
        if node.name not in hidden:
            yield from _class(node, hidden)
    if module.unsupported:
        yield f"\nNot here, and says so when it is called: {', '.join(f'`{n}`' for n in module.unsupported)}."


def _class(node: ast.ClassDef, hidden: frozenset[str]) -> Iterator[str]:
    bases = [ast.unparse(base) for base in node.bases]
    yield f"\n#### `{node.name}`" + (f" ({', '.join(f'`{base}`' for base in bases)})" if bases else "") + "\n"
    yield (ast.get_docstring(node) or "") + "\n"
    if fields := surface.fields(node):
        yield f"Fields: {', '.join(f'`{field}`' for field in fields)}.\n"
    for method in surface.methods(node):
        # One without a docstring overrides a documented one.
        if ast.get_docstring(method) and f"{node.name}.{method.name}" not in hidden:
            yield _entry(f"- **`{surface.signature(method)}`**", method)
    if missing := surface.unsupported_methods(node):
        yield f"\nNot here, and says so when it is called: {', '.join(f'`{name}`' for name in missing)}."


def _entry(head: str, node: Function) -> str:
    """On one line if that is no longer than others."""
    text = ast.get_docstring(node) or ""
    first, _, rest = text.partition("\n")
    if len(head) + 1 + len(first) > WIDTH:
        return f"{head}\n{indent(text, '  ')}"
    return f"{head} {first}\n{indent(rest, '  ')}".rstrip()


def _decorated(node: Function) -> str:
    return " ".join(ast.unparse(decorator) for decorator in node.decorator_list)


def _yielded(node: Function) -> str:
    returns = node.returns
    if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "Iterator":
        return ast.unparse(returns.slice)
    return ast.unparse(returns) if returns is not None else "?"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/reference", description="Write the generated pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is out of date")
    pages = {TARGET: reference(), POINTS: page()}
    if parser.parse_args().check:
        return 0 if all(path.read_text() == text for path, text in pages.items()) else 1
    for path, text in pages.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

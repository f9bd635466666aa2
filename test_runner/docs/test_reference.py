"""What test authors call is documented and typed, and docs/reference.md says what the docstrings say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from reattach.fixtures.cli.points import page
from reattach.fixtures.pytest_plugin.modules import FIXTURE_MODULES
from reattach.fixtures.subjects.command.parts import Part
from reattach.fixtures.subjects.port import Subject
from test_runner.docs import surface
from test_runner.docs.reference import POINTS, TARGET, reference
from test_runner.docs.surface import ANSWERS, NEW_MODULES, OF_THE_LIBRARY, ROOT, SECTIONS
from test_runner.docs.variables import VARIABLES

MODULES = [module for modules in (*SECTIONS.values(), ANSWERS) for module in modules]

PROTOCOLS = (Subject, Part)

_READ = re.compile(r"""environ(?:\.get\(|\[)\s*["'](\w+)["']|["'](\w+)["'] in os\.environ""")
_OF_OTHERS = {"HOME", "LD_LIBRARY_PATH", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"}


def test_reference_is_up_to_date() -> None:
    assert TARGET.read_text() == reference(), "run ./scripts/reference"


def test_options_and_commands_are_listed() -> None:
    """The generator looks where they are: an empty table is up to date, too."""
    text = TARGET.read_text()
    listed = set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))
    assert {"--keep-running", "--pictures", "--explore-plan", "up", "explore", "judge", "NEON_BIN"} <= listed
    for start in ("- **`launcher`**", "#### `Launcher`", "#### `Process`"):
        assert f"\n{start}" in text


def test_points_are_up_to_date() -> None:
    assert POINTS.read_text() == page(), "run ./scripts/reference"


@pytest.mark.parametrize("module", OF_THE_LIBRARY)
def test_what_is_not_listed_is_there_and_no_test_calls_it(module: str) -> None:
    source = surface.read(module)
    there = {node.name for node in (*source.functions, *source.classes)}
    there |= {f"{node.name}.{method.name}" for node in source.classes for method in surface.methods(node)}
    assert there >= OF_THE_LIBRARY[module]
    examples = "".join(file.read_text() for file in (ROOT / "docs" / "examples").rglob("*.py"))
    # A set has an `add`, too: of names of one word an example's text says nothing.
    names = {name.rpartition(".")[2] for name in OF_THE_LIBRARY[module]}
    assert not [name for name in names if "_" in name and re.search(rf"\b{name}\(", examples)]


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name: str) -> None:
    module, source = importlib.import_module(name), surface.read(name)
    missing = [node.name for node in (*source.functions, *source.fixtures) if not ast.get_docstring(node)]
    for node in source.classes:
        if not ast.get_docstring(node):
            missing.append(node.name)
        cls = getattr(module, node.name)
        # What overrides a documented method, or is what a protocol asks for, need not say the same again.
        missing += [
            f"{node.name}.{method.name}"
            for method in surface.methods(node)
            if not inspect.getdoc(inspect.getattr_static(cls, method.name))
            and not any(
                inspect.getdoc(getattr(base, method.name, None)) for base in (*cls.__mro__[1:], *PROTOCOLS)
            )
        ]
    assert not missing, f"{name}: no docstring for {missing}"


@pytest.mark.parametrize("name", FIXTURE_MODULES)
def test_fixtures_have_docstrings(name: str) -> None:
    missing = [node.name for node in surface.read(name).fixtures if not ast.get_docstring(node)]
    assert not missing, f"{name}: no docstring for the fixtures {missing}"


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_types(name: str) -> None:
    untyped = [node.name for node in public_functions(name) if None in list(surface.types_of(node))]
    assert not untyped, f"{name}: not all of {untyped} is annotated"


@pytest.mark.parametrize("name", NEW_MODULES)
def test_no_any_in_what_authors_touch(name: str) -> None:
    loose = [
        f"{node.name}: {ast.unparse(annotation)}"
        for node in public_functions(name)
        for annotation in surface.types_of(node)
        if annotation is not None and re.search(r"\bAny\b", ast.unparse(annotation))
    ]
    loose += [
        field for node in surface.read(name).classes for field in surface.fields(node) if "Any" in field
    ]
    assert not loose, f"{name}: Any in {loose}"


def test_every_variable_that_is_read_is_documented() -> None:
    sources = [*(ROOT / "fixtures").rglob("*.py")]
    read = {a or b for source in sources for a, b in _READ.findall(source.read_text())}
    assert "NEON_BIN" in read, "the pattern finds nothing"
    assert read - _OF_OTHERS <= set(VARIABLES)


def test_every_documented_variable_is_read() -> None:
    folders = ("fixtures", "scripts", "reattach/runtime")
    text = "".join(
        file.read_text() for folder in folders for file in (ROOT / folder).rglob("*") if is_source(file)
    )
    unknown = [name for name in VARIABLES if name not in text]
    assert not unknown, f"nothing reads {unknown}"


def public_functions(name: str) -> list[surface.Function]:
    source = surface.read(name)
    methods = [method for node in source.classes for method in surface.methods(node)]
    return [*source.functions, *source.fixtures, *methods]


def is_source(file: Path) -> bool:
    return file.is_file() and file.suffix in ("", ".py", ".sh")

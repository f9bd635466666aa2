"""What a test author imports and calls, read from the source text: modules, classes, functions, fixtures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SECTIONS: dict[str, tuple[str, ...]] = {
    "Imports": (
        "fixtures.imports.handle",
        "fixtures.imports.run",
        "fixtures.imports.passes",
        "fixtures.imports.invariants",
        "fixtures.imports.bucket",
    ),
    "Control plane": ("fixtures.control_plane",),
    "Mock S3": (
        "fixtures.bucket.server",
        "fixtures.bucket.faults",
        "fixtures.bucket.gates",
        "fixtures.bucket.request_log",
    ),
    "Endpoints": ("fixtures.endpoint", "fixtures.endpoint_factory"),
    "Environment": (
        "fixtures.env.builder",
        "fixtures.env.env",
        "fixtures.env.config",
        "fixtures.env.capabilities",
        "fixtures.env.service",
        "fixtures.env.shards",
    ),
    "Pageservers": (
        "fixtures.pageserver.server",
        "fixtures.pageserver.http",
        "fixtures.pageserver.http_session",
        "fixtures.pageserver.http_tenants",
        "fixtures.pageserver.http_timelines",
        "fixtures.pageserver.http_models",
        "fixtures.pageserver.answers",
        "fixtures.http_options",
        "fixtures.pageserver.common_types",
        "fixtures.pageserver.utils",
    ),
    "Storage controller": (
        "fixtures.storage_controller.server",
        "fixtures.storage_controller.session",
        "fixtures.storage_controller.tenants",
        "fixtures.storage_controller.timelines",
        "fixtures.storage_controller.nodes",
        "fixtures.storage_controller.safekeepers",
        "fixtures.storage_controller.types",
        "fixtures.storage_controller.answers",
        "fixtures.storage_controller.import_rows",
        "fixtures.storage_controller_proxy",
    ),
    "Postgres": (
        "fixtures.postgres.protocol",
        "fixtures.postgres.binaries",
        "fixtures.postgres.distributions",
        "fixtures.vanilla_postgres",
        "fixtures.fast_import",
        "fixtures.pg_version",
        "fixtures.skips",
        "fixtures.workload",
    ),
    "Remote storage": ("fixtures.remote_storage", "fixtures.stores.base"),
    "Small things": (
        "fixtures.common_types",
        "fixtures.log_utils",
        "fixtures.ports",
        "fixtures.utils",
        "fixtures.waiting",
        "fixtures.unsupported",
        "fixtures.auth_tokens",
        "fixtures.metrics",
    ),
}
"""The modules of the reference, by its headings."""

NEW_MODULES = tuple(
    module for section in ("Imports", "Control plane", "Mock S3", "Endpoints") for module in SECTIONS[section]
)
"""Those that no other library has; there is no `Any` in what an author touches of them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """A module's public names, in the order of its text."""

    name: str
    classes: tuple[ast.ClassDef, ...]
    functions: tuple[Function, ...]
    fixtures: tuple[Function, ...]
    unsupported: tuple[str, ...]
    """Functions that only say why they are not there."""


def read(name: str) -> Module:
    """Reads a module of this repository."""
    path = ROOT / (name.replace(".", "/") + ".py")
    body = ast.parse(path.read_text()).body
    functions = [node for node in body if isinstance(node, Function) and is_public(node)]
    return Module(
        name,
        tuple(node for node in body if isinstance(node, ast.ClassDef) and is_public(node)),
        tuple(node for node in functions if not is_fixture(node) and not never_returns(node)),
        tuple(node for node in functions if is_fixture(node)),
        tuple(node.name for node in functions if never_returns(node)),
    )


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """A class's public methods and properties, but for those that only say why they are not there.

    A protocol has none: nobody calls it.
    """
    if any(ast.unparse(base).startswith("Protocol") for base in node.bases):
        return
    for member in node.body:
        if (
            isinstance(member, Function)
            and is_public(member)
            and not never_returns(member)
            and not {"overload", "setter"} & set(decorators(member))
        ):
            yield member


def unsupported_methods(node: ast.ClassDef) -> list[str]:
    """The methods of a class that only say why they are not there."""
    return [m.name for m in node.body if isinstance(m, Function) and is_public(m) and never_returns(m)]


def fields(node: ast.ClassDef) -> list[str]:
    """The public annotated names of a class, `name: type`."""
    return [
        f"{ast.unparse(member.target)}: {ast.unparse(member.annotation)}"
        for member in node.body
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_")
    ]


def signature(node: Function) -> str:
    """`name(parameters) -> result`, or `name: result` for a property."""
    result = ast.unparse(node.returns) if node.returns is not None else "?"
    if {"property", "cached_property"} & set(decorators(node)):
        return f"{node.name}: {result}"
    return f"{node.name}({', '.join(parameters(node))}) -> {result}"


def parameters(node: Function) -> Iterator[str]:
    """Each parameter with its annotation and default, as one writes it; without `self` and `cls`."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    for number, argument in enumerate(positional):
        if number or argument.arg not in ("self", "cls"):
            yield _parameter(argument, arguments.defaults[number - required] if number >= required else None)
    if arguments.vararg is not None:
        yield "*" + _parameter(arguments.vararg, None)
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default)
    if arguments.kwarg is not None:
        yield "**" + _parameter(arguments.kwarg, None)


def types_of(node: Function) -> Iterator[ast.expr | None]:
    """The annotation of each parameter but `self` and `cls`, then of the result; None where there is none."""
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if argument.arg not in ("self", "cls"):
            yield argument.annotation
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            yield rest.annotation
    yield node.returns


def decorators(node: Function | ast.ClassDef) -> list[str]:
    """The last part of each decorator's name."""
    names = (ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list)
    return [name.rpartition(".")[2] for name in names]


def is_fixture(node: Function) -> bool:
    return "fixture" in decorators(node)


def is_public(node: Function | ast.ClassDef) -> bool:
    return not node.name.startswith(("_", "pytest_"))


def never_returns(node: Function) -> bool:
    return node.returns is not None and ast.unparse(node.returns) == "NoReturn"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg
    if argument.annotation is not None:
        text += f": {ast.unparse(argument.annotation)}"
    if default is not None:
        text += f" = {ast.unparse(default)}"
    return text

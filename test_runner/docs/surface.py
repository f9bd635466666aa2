"""What a test author imports and calls, read from the source text: modules, classes, functions, fixtures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SECTIONS: dict[str, tuple[str, ...]] = {
    "Imports": (
        "reattach.fixtures.imports.handle",
        "reattach.fixtures.imports.run",
        "reattach.fixtures.imports.invariants",
        "reattach.fixtures.imports.bucket",
    ),
    "Explorations": (
        "reattach.fixtures.explore.plugin",
        "reattach.fixtures.subjects.neon.subject",
        "reattach.fixtures.subjects.command.subject",
        "reattach.fixtures.subjects.command.parts",
        "reattach.fixtures.subjects.command.http",
    ),
    "The witness": ("reattach.fixtures.witness.world",),
    "Control plane": ("reattach.fixtures.control_plane",),
    "Mock S3": (
        "reattach.fixtures.bucket.server",
        "reattach.fixtures.bucket.faults",
        "reattach.fixtures.bucket.gates",
        "reattach.fixtures.bucket.request_log",
    ),
    "Endpoints": ("reattach.fixtures.endpoint", "reattach.fixtures.endpoint_factory"),
    "Environment": (
        "reattach.fixtures.env.builder",
        "reattach.fixtures.env.env",
        "reattach.fixtures.env.config",
        "reattach.fixtures.env.capabilities",
        "reattach.fixtures.env.service",
        "reattach.fixtures.env.shards",
    ),
    "Pageservers": (
        "reattach.fixtures.pageserver.server",
        "reattach.fixtures.pageserver.http",
        "reattach.fixtures.pageserver.http_session",
        "reattach.fixtures.pageserver.http_tenants",
        "reattach.fixtures.pageserver.http_timelines",
        "reattach.fixtures.pageserver.http_models",
        "reattach.fixtures.http_options",
        "reattach.fixtures.pageserver.common_types",
        "reattach.fixtures.pageserver.utils",
    ),
    "Storage controller": (
        "reattach.fixtures.storage_controller.server",
        "reattach.fixtures.storage_controller.session",
        "reattach.fixtures.storage_controller.tenants",
        "reattach.fixtures.storage_controller.timelines",
        "reattach.fixtures.storage_controller.nodes",
        "reattach.fixtures.storage_controller.safekeepers",
        "reattach.fixtures.storage_controller.types",
        "reattach.fixtures.storage_controller.import_rows",
        "reattach.fixtures.storage_controller_proxy",
    ),
    "Postgres": (
        "reattach.fixtures.postgres.protocol",
        "reattach.fixtures.postgres.binaries",
        "reattach.fixtures.postgres.distributions",
        "reattach.fixtures.vanilla_postgres",
        "reattach.fixtures.fast_import",
        "reattach.fixtures.pg_version",
        "reattach.fixtures.skips",
        "reattach.fixtures.workload",
    ),
    "Processes": (
        "reattach.fixtures.process.launcher",
        "reattach.fixtures.process.process",
        "reattach.fixtures.process.wait",
        "reattach.fixtures.process.errors",
    ),
    "Remote storage": ("reattach.fixtures.remote_storage", "reattach.fixtures.stores.base"),
    "Small things": (
        "reattach.fixtures.common_types",
        "reattach.fixtures.log_utils",
        "reattach.fixtures.ports",
        "reattach.fixtures.utils",
        "reattach.fixtures.waiting",
        "reattach.fixtures.unsupported",
        "reattach.fixtures.auth_tokens",
        "reattach.fixtures.metrics",
    ),
}
"""The modules of the reference, by its headings."""

ANSWERS = ("reattach.fixtures.pageserver.answers", "reattach.fixtures.storage_controller.answers")
"""The JSON that servers answer, typed. The reference names the modules only."""

OF_THE_LIBRARY: dict[str, frozenset[str]] = {
    f"reattach.fixtures.{module}": frozenset(names.split())
    for module, names in {
        "imports.handle": "ImportTimeline.announce",
        "imports.run": "ImportPass.describe",
        "explore.plugin": "Options Replay replay_plan workers",
        "subjects.neon.subject": "NeonImport",
        "subjects.command.subject": "Command.done_again",
        "subjects.command.parts": "Part",
        "subjects.command.http": "JobHttp.reset",
        "witness.world": "World.listen World.add_client World.process_starting World.process_started "
        "World.process_signalled World.process_ended World.label World.release_command World.finish",
        "control_plane": "HasTimeline ControlPlane.keep_to_itself",
        "bucket.server": "BucketServer.finish_test",
        "bucket.faults": "describe_rule FaultBuilder.describe Faults.add Faults.finish",
        "bucket.request_log": "RequestLog.forget",
        "env.builder": "NeonEnvBuilder.findings",
        "env.env": "NeonEnv.has_database NeonEnv.release_database NeonEnv.service_environment "
        "NeonEnv.first_death NeonEnv.create_initial_tenant NeonEnv.mark_settings",
        "env.config": "availability_zone base_config apply_override write_workdir read_config write_config",
        "env.capabilities": "why_missing",
        "env.service": "Service.note_death Service.findings",
        "http_options": "direct_session",
        "pageserver.http_session": "error_message ApiSession.send",
        "pageserver.http_models": "InMemoryLayerInfo.from_json HistoricLayerInfo.from_json "
        "LayerMapInfo.from_json ScanDisposableKeysResponse.from_json TenantConfig.from_json "
        "TimelinesInfoAndOffloaded.from_json",
        "storage_controller.server": "NeonStorageController.close_import_rows "
        "NeonProxiedStorageController.assert_no_errors NeonProxiedStorageController.findings",
        "storage_controller.types": "ShardPlacement.from_dump Placement.to_dict ShardPlacement.to_dict",
        "storage_controller.import_rows": "ImportRow.to_json",
        "storage_controller_proxy": "StorageControllerProxy.forward",
        "postgres.protocol": "first_column",
        "postgres.distributions": "possible_lenders arrange",
        "process.launcher": "Launcher.keep_running",
        "process.process": "last_lines Process.last_word",
        "waiting": "watching check_watched",
    }.items()
}
"""For other modules of the library: no test calls them, and the reference does not list them."""

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
    """`name(parameters) -> result`, without `-> None`; `name: result` for a property.

    The parameters of a call that is as another stand there.
    """
    result = ast.unparse(node.returns) if node.returns is not None else "?"
    if {"property", "cached_property"} & set(decorators(node)):
        return f"{node.name}: {result}"
    as_another = (ast.get_docstring(node) or "").startswith("As `")
    call = f"{node.name}({'…' if as_another else ', '.join(parameters(node))})"
    return call if result == "None" else f"{call} -> {result}"


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

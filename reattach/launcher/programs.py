"""Which command lines are Python programs of ours, that a fork of a warm parent can run without an exec."""

# pathlib would be a third of the time that this process needs to start.
# ruff: noqa: PTH100, PTH118, PTH120

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

Program = Callable[[], int]

BIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
"""The folder with the engine's programs, as NEON_BIN would name it."""

PROGRAMS = {
    "pageserver": "reattach.pageserver.main",
    "storage_controller": "reattach.storage_controller.main",
    "fast_import": "reattach.fast_import.main",
    "witness": "reattach.witness.main",
}
"""Program → module with its `main()`."""

MODULES = {"reattach.witness": PROGRAMS["witness"]}
"""`python -m` name → the module that holds what it imports."""

# In small steps, so that a request waits for one of them only.
_WARM_UP = (
    "asyncio",
    "uvloop",
    "msgspec",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
    "encodings.idna",
    "_strptime",
    "importlib.resources.readers",
    "starlette.applications",
    "prometheus_client",
    "psycopg",
    "numpy",
    "obstore.store",
    "zstandard",
    PROGRAMS["witness"],
    PROGRAMS["storage_controller"],
    PROGRAMS["pageserver"],
    "reattach.pageserver.remote.s3",
    "reattach.pageserver.import_pgdata.bucket_s3",
)


def find(argv: Sequence[str]) -> tuple[str, Program] | None:
    """(module to load before the fork, what the child calls), or None if the command line needs an exec."""
    directory, name = os.path.split(argv[0])
    if name in PROGRAMS and directory == BIN:
        return PROGRAMS[name], partial(_call_main, PROGRAMS[name], list(argv))
    if argv[0] == sys.executable and len(argv) > 2 and argv[1] == "-m" and argv[2] in MODULES:
        return MODULES[argv[2]], partial(_run_module, argv[2], list(argv[2:]))
    return None


def warm_up() -> Iterator[str]:
    """The modules that programs need, to be loaded when there is time."""
    return iter(_WARM_UP)


def load(module: str) -> None:
    """Imports the module, if it can be."""
    # numpy's BLAS would start its threads here, and a fork must not have any.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        importlib.import_module(module)
    except Exception:  # noqa: BLE001
        # The child imports it again and dies of it with a traceback in its own log, as it would without us.
        return


def _call_main(module: str, argv: list[str]) -> int:
    sys.argv[:] = argv
    result: int | None = importlib.import_module(module).main()
    return result or 0


def _run_module(name: str, argv: list[str]) -> int:
    sys.argv[:] = argv
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0

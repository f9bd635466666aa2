"""The script that fetches PostgreSQL's binaries, with a package registry that is played."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch-postgres"
SECONDS = 60.0


class Registry:
    """An `npm` in a folder of its own, that packs what it is told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        self.into = directory / "some where" / "pg_install"
        self.asked = directory / "asked"

    def offer(self, *, contrib: bool = True, runs: bool = True, link: str = "native/lib/libpq.so.5") -> None:
        """Makes `npm pack` give a package."""
        package = self.directory / "package"
        shutil.rmtree(package, ignore_errors=True)
        extension = package / "native" / "share" / "postgresql" / "extension"
        for folder in (package / "native" / "bin", package / "native" / "lib", extension):
            folder.mkdir(parents=True)
        for name, code in (("postgres", 0), ("initdb", 0 if runs else 1)):
            path = package / "native" / "bin" / name
            path.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 16.99'\necho broken >&2\nexit {code}\n")
            path.chmod(0o755)
        (package / "native" / "lib" / "libpq.so.5.16").write_text("library")
        if contrib:
            (extension / "amcheck.control").touch()
        links = [{"source": "native/lib/libpq.so.5.16", "target": link}]
        (package / "native" / "pg-symlinks.json").write_text(json.dumps(links))
        with tarfile.open(self.directory / "package.tgz", "w:gz") as archive:
            archive.add(package, "package")
        self.npm(
            f'echo "$@" >> "{self.asked}"\n'
            'for last in "$@"; do case $last in --pack-destination=*) to=${last#*=};; esac; done\n'
            f'cp "{self.directory}/package.tgz" "$to/"'
        )

    def npm(self, script: str) -> None:
        path = self.bin / "npm"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def fetch(self, *versions: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, SCRIPT, f"--into={self.into}", *versions],
            # Only the played npm, whatever is installed here.
            env={**os.environ, "PATH": f"{self.bin}:{self._tools()}"},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def _tools(self) -> Path:
        tools = self.directory / "tools"
        if not tools.exists():
            tools.mkdir()
            for name in ("cp", "sh"):
                found = shutil.which(name)
                assert found is not None
                (tools / name).symlink_to(found)
        return tools


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_fetched_is_complete(registry: Registry) -> None:
    registry.offer()
    done = registry.fetch("16", "17")
    assert done.returncode == 0, done.stderr
    for version in (16, 17):
        folder = registry.into / f"v{version}"
        assert f"PostgreSQL 16.99 in {folder}" in done.stdout
        assert os.access(folder / "bin" / "postgres", os.X_OK)
        assert (folder / "lib" / "libpq.so.5").readlink() == Path("libpq.so.5.16")
    asked = registry.asked.read_text().splitlines()
    assert ["@16." in asked[0], "@17." in asked[1], len(asked)] == [True, True, 2]
    assert sorted(path.name for path in registry.into.iterdir()) == ["v16", "v17"]


def test_fetched_again_replaces(registry: Registry) -> None:
    registry.offer()
    registry.fetch("16")
    (registry.into / "v16" / "old").touch()
    assert registry.fetch("16").returncode == 0
    assert not (registry.into / "v16" / "old").exists()


def test_without_npm(registry: Registry) -> None:
    done = registry.fetch("16")
    assert done.returncode == 1
    assert done.stderr.startswith("fetch-postgres: npm, which comes with Node.js, is needed; or install")
    assert not registry.into.exists()


def test_npm_that_fails(registry: Registry) -> None:
    registry.npm("echo registry is down >&2; exit 1")
    done = registry.fetch("16")
    assert done.returncode == 1
    assert "failed: registry is down" in done.stderr
    assert list(registry.into.iterdir()) == []


@pytest.mark.parametrize(
    ("offer", "message"),
    [
        ({"contrib": False}, "lacks the contrib module amcheck"),
        ({"runs": False}, "failed: broken"),
        ({"link": "native/../../../evil"}, "the package has a link outside of itself: native/../../../evil"),
    ],
)
def test_package_that_is_no_good(registry: Registry, offer: dict[str, bool], message: str) -> None:
    registry.offer(**offer)  # type: ignore[arg-type]
    done = registry.fetch("16")
    assert done.returncode == 1
    assert message in done.stderr


def test_unknown_version(registry: Registry) -> None:
    registry.offer()
    done = registry.fetch("9")
    assert done.returncode == 2
    assert "invalid choice: 9" in done.stderr.replace("'", "")  # newer Pythons quote it

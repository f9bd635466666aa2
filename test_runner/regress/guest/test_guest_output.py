"""The user's files: what the library did not make is never removed, and what it made goes when it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from reattach.fixtures.output.own_folder import MARKER
from test_runner.regress.guest.project import Project

PLAIN = "def test_plain():\n    pass\n"
WRITES = "def test_plain(test_output_dir):\n    (test_output_dir / 'made').touch()\n"

PLACES = [
    pytest.param("test_output/test_plain", None, id="default"),
    pytest.param("test_plain", ".", id="current"),
    pytest.param("test_output/test_plain", "", id="empty"),
    pytest.param("out/test_plain", "out", id="named"),
]


def put_precious(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "golden.csv").write_text("precious")
    return folder / "golden.csv"


@pytest.mark.parametrize(("folder", "test_output"), PLACES)
def test_a_tests_folder_that_is_the_users(project: Project, folder: str, test_output: str | None) -> None:
    """A test that makes no folder makes none anywhere: see `test_a_plain_test_pays_for_nothing`."""
    golden = put_precious(project.root / folder)
    project.write(test_it=WRITES).pytest(env={"TEST_OUTPUT": test_output}).assert_passed(1)
    assert golden.read_text() == "precious"


@pytest.mark.parametrize(
    "shared", [("cache", "pg_distrib/v16"), ("cache/run-1", "pg_distrib/v16/bin")], ids=" ".join
)
def test_shared_folders_that_are_the_users(project: Project, shared: tuple[str, ...]) -> None:
    golden = [put_precious(project.root / folder) for folder in shared]
    test = "def test_plain(pg_datasets, pg_distrib_dir, pg_bin):\n    pg_bin.run(['psql', '--version'])\n"
    for _ in range(2):
        project.write(test_it=test).pytest(env={"TEST_OUTPUT": "."}).assert_passed(1)
    assert [file.read_text() for file in golden] == ["precious"] * 2


def test_a_link_is_not_followed(project: Project) -> None:
    golden = put_precious(project.root / "precious")
    (project.root / "test_output").mkdir()
    (project.root / "test_output" / "test_plain").symlink_to(golden.parent)
    # Even to a folder that is ours: what stands there is a link, which somebody else has made.
    (golden.parent / MARKER).touch()
    project.write(test_it=WRITES).pytest().assert_passed(1)
    assert golden.read_text() == "precious"


def test_fast_import_removes_no_folder_with_files(project: Project) -> None:
    golden = put_precious(project.root / "data")
    test = """
import pytest
from pathlib import Path
from reattach.fixtures.fast_import import FastImport

def test_plain(neon_binpath, pg_distrib_dir, pg_version):
    with pytest.raises(ValueError, match="not empty"):
        with FastImport(None, neon_binpath, pg_distrib_dir, pg_version, Path("data")):
            pass
"""
    project.write(test_it=test).pytest().assert_passed(1)
    assert golden.exists()


def test_the_folder_goes_unless_the_test_fails(project: Project) -> None:
    ends = {
        "passes": "pass",
        "fails": "assert False",
        "is_skipped": "pytest.skip('not now')",
        "fails_in_teardown": "late.append(1)",
    }
    test = """
import pytest

@pytest.fixture
def late(test_output_dir):
    found = []
    yield found
    assert not found
"""
    for name, body in ends.items():
        test += f"""
def test_{name}(late, test_output_dir):
    (test_output_dir / "repo").mkdir()
    (test_output_dir / "repo" / "some.log").write_text("said")
    {body}
"""
    run = project.write(test_it=test).pytest()
    kept = {folder.name for folder in (project.root / "test_output").glob("test_*")}
    assert kept == {"test_fails", "test_fails_in_teardown"}, run.output
    right = [f"def {name}(test_output_dir):\n    pass\n" for name in kept]
    project.write(test_it="\n".join(right)).pytest().assert_passed(2)
    assert not [*(project.root / "test_output").glob("test_*")]


def test_preserve_keeps_the_folder_of_a_passing_test(project: Project) -> None:
    project.write(test_it=WRITES).pytest("--preserve-database-files").assert_passed(1)
    assert (project.root / "test_output" / "test_plain" / "made").exists()


def test_a_folder_is_known_as_ours_until_it_is_gone(project: Project) -> None:
    """Also if a removal was cut short: then the next test must not go elsewhere for ever."""
    folder = project.root / "test_output" / "test_plain"
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / "left").touch()
    project.write(test_it=WRITES).pytest().assert_passed(1)
    assert [entry.name for entry in folder.parent.iterdir() if entry.name.startswith("test_plain")] == []


@pytest.mark.parametrize("in_the_way", ["file", "read-only"])
def test_a_place_that_cannot_be_written(project: Project, in_the_way: str) -> None:
    """Plain tests do not mind; a test that needs the folder finds another, or says what to do."""
    project.write(test_it=PLAIN.replace("test_plain", "test_other") + WRITES)
    if in_the_way == "file":
        (project.root / "test_output").touch()
        project.pytest().assert_passed(2)
        return
    run = project.pytest(env={"TEST_OUTPUT": "/proc/reattach"})
    assert (run.outcomes["passed"], run.outcomes["error"]) == (1, 1), run.output
    assert "TEST_OUTPUT names another folder" in run.output

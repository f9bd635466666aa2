"""Uploads in parts: what is left of those that were cut. boto3 with s3transfer, and rclone."""

from pathlib import Path

import pytest

from reattach.fixtures.subjects.command import Command

UPLOADS = Path(__file__).with_name("uploads.py")
FILES = {"a.bin": 11 << 20, "b.bin": 11 << 20, "c.txt": 100}

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800)]


@pytest.fixture
def folder(tmp_path):
    for name, size in FILES.items():
        (tmp_path / name).write_bytes(name.encode() * (size // len(name)))
    return tmp_path


@pytest.fixture
def uploads(job_bucket, folder):
    def check():
        assert job_bucket.keys() == sorted(FILES)
        for file in folder.iterdir():
            assert job_bucket.get(file.name) == file.read_bytes(), f"{file.name} is another file"
        job_bucket.assert_nothing_unfinished()

    def uploads(*argv, name, **environment):
        return Command(
            [str(word) for word in argv],
            through=[job_bucket],
            check=check,
            environment=environment,
            checkpoint=f"{name} > s3: *",
            name=name,
        )

    return uploads


@pytest.fixture
def boto3(uploads, python_with, folder, job_bucket):
    python = python_with("boto3==1.44.5", "s3transfer==0.19.3")
    return uploads(python, UPLOADS, folder, job_bucket.name, name="boto3")


@pytest.fixture
def rclone(uploads, program, folder, job_bucket):
    def rclone(job, name):
        settings = {
            "RCLONE_CONFIG": "",
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENV_AUTH": "true",
            "RCLONE_CONFIG_S3_ENDPOINT": job_bucket.url,
            "RCLONE_S3_CHUNK_SIZE": "5Mi",
            "RCLONE_S3_UPLOAD_CUTOFF": "5Mi",
            "RCLONE_S3_UPLOAD_CONCURRENCY": "1",
            "RCLONE_TRANSFERS": "1",
        }
        return uploads("sh", "-ec", job, program("rclone"), folder, job_bucket.name, name=name, **settings)

    return rclone


@pytest.fixture
def rclone_copy(rclone):
    return rclone('"$0" copy "$1" "s3:$2"', "rclone_copy")


@pytest.fixture
def rclone_copy_and_cleanup(rclone):
    job = '"$0" copy "$1" "s3:$2"; "$0" backend cleanup -o max-age=1ns "s3:$2"'
    return rclone(job, "rclone_copy_and_cleanup")


@pytest.mark.parametrize("job", ["boto3", "rclone_copy"])
def test_a_cut_upload_leaves_parts_behind(first_failure, request, job):
    failure = first_failure(request.getfixturevalue(job))
    assert failure.reduced.stable
    assert "unfinished uploads are left behind" in failure.text()


def test_who_cleans_up_leaves_nothing(explore, rclone_copy_and_cleanup):
    explore(rclone_copy_and_cleanup).assert_survives_every_crash()

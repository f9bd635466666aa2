"""The environment variables of the library and its scripts."""

VARIABLES: dict[str, str] = {
    "NEON_BIN": "folder of real executables `pageserver` and `storage_controller`; what it lacks is built in",
    "DATABASE_URL": "a PostgreSQL server for the storage controllers instead of an embedded one; each "
    "environment makes a database there, and drops it. It says all: `PG…` variables are not looked at",
    "POSTGRES_DISTRIB_DIR": "PostgreSQL installations `v14/` … `v17/`, or one installation; nothing else is "
    "used then",
    "DEFAULT_PG_VERSION": "run everything on this one major version, such as `15`",
    "ENABLE_REAL_S3_REMOTE_STORAGE": "set to anything: tests that ask for S3 (`s3_storage()`, "
    "`available_s3_storages()`) keep pageservers' timelines in a real bucket",
    "REMOTE_STORAGE_S3_BUCKET": "that bucket",
    "REMOTE_STORAGE_S3_REGION": "its region",
    "AWS_ACCESS_KEY_ID": "credentials for it",
    "AWS_SECRET_ACCESS_KEY": "credentials for it",
    "AWS_SESSION_TOKEN": "goes with the two, if there is one",
    "AWS_PROFILE": "a profile instead of the three",
    "TEST_OUTPUT": "the output folder, by default (or set to nothing) `test_output` where pytest was called",
    "XDG_RUNTIME_DIR": "folder in which `reattach up` says that it runs; by default that for temporary files",
    "BUILD_TYPE": "`debug` if the real executables are a debug build; some tests skip then",
    "SANITIZERS": "`enabled` if the real executables were built with sanitizers",
    "CI": "`true` where tests marked `skip_on_ci` are to be skipped",
    "RUST_LOG": "the servers' log level; `NeonEnvBuilder.rust_log_override` goes before it",
    "REATTACH_VENV": "folder of the virtual environment that `scripts/*` make, by default `.venv`",
    "REATTACH_PYTHON": "the interpreter that they make it with",
}
"""What each is for, in the order of the reference."""

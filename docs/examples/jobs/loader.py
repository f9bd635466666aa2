"""Loads every object of a bucket into a table, and goes on where it was stopped.

python loader.py BUCKET DSN [HOW]
"""

import sys

import boto3
import psycopg


def main(bucket, dsn, how="right"):
    s3 = boto3.client("s3")
    objects = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("create table if not exists fruit (name text)")
        db.execute("create table if not exists done (key text)")
        done = {key for (key,) in db.execute("select key from done")}
        for key in sorted(found["Key"] for found in objects):
            if key not in done:
                names = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode().split()
                WAYS[how](db, key, names)


def right(db, key, names):
    with db.transaction():
        add(db, names)
        remember(db, key)


def checkpoint_first(db, key, names):
    remember(db, key)
    add(db, names)


def two_transactions(db, key, names):
    add(db, names)
    remember(db, key)


def in_memory(db, key, names):
    add(db, names)


def add(db, names):
    with db.cursor().copy("copy fruit from stdin") as copy:
        for name in names:
            copy.write_row([name])


def remember(db, key):
    db.execute("insert into done values (%s)", [key])


WAYS = {way.__name__: way for way in (right, checkpoint_first, two_transactions, in_memory)}

if __name__ == "__main__":
    main(*sys.argv[1:])

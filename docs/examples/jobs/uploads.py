"""Uploads the files of a folder that the bucket does not have yet, large ones in parts of 5 MiB.

python uploads.py FOLDER BUCKET
"""

import sys
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig

PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=1)


def main(folder, bucket):
    s3 = boto3.client("s3")
    there = {found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}
    for file in sorted(Path(folder).iterdir()):
        if file.name not in there:
            s3.upload_file(str(file), bucket, file.name, Config=PARTS)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Makes the S3 buckets that MLflow and DVC write to, where they are missing: python infra/buckets.py NAME...

Endpoint and key come from AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import boto3
from botocore.exceptions import ClientError


def make(names: Sequence[str]) -> list[str]:
    """Creates the buckets that are not there; returns those it created."""
    client = boto3.client("s3")
    created = []
    for name in names:
        try:
            client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            client.create_bucket(Bucket=name)
            created.append(name)
    return created


if __name__ == "__main__":
    print("created:", ", ".join(make(sys.argv[1:])) or "nothing, all there")

"""A folder on S3: names and bytes below s3://bucket/prefix, listed, read, written and deleted by one client.

Uploads carry a CRC32 that the store checks; large ones go in parts and appear whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from components.data.downloads import TransientError, retrying
from components.data.object_store import client_of, in_words, split


class ObjectFolder:
    """What lies below an address s3://bucket/prefix; the endpoint and the credentials are the environment's.

    Every method raises InputError, in one line, where the store refuses or does not answer after several tries.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._client = client_of(None)
        self._bucket, prefix = split(self.address)
        self._prefix = f"{prefix}/" if prefix else ""

    def sizes(self) -> dict[str, int]:
        """Bytes of each object, by its name below the address."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with in_words(self.address):
            return {row["Key"][len(self._prefix) :]: row["Size"] for page in pages for row in page.get("Contents", [])}

    def read(self, name: str) -> bytes:
        """A small object."""
        with in_words(self._uri(name)):
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        return content

    def download(self, name: str, path: Path) -> None:
        """Brings an object into a file; its folder is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        retrying(repr(self._uri(name)), lambda: self._download(name, path))

    def _download(self, name: str, path: Path) -> None:
        with in_words(self._uri(name), transient=True):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            with answer["Body"] as body, path.open("wb") as file:
                shutil.copyfileobj(body, file, 2**20)
        if (found := path.stat().st_size) != answer["ContentLength"]:
            raise TransientError(f"ended after {found} of {answer['ContentLength']} bytes")

    def write(self, name: str, content: bytes) -> None:
        """Puts a small object."""
        with in_words(self._uri(name), deed="write"):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)

    def upload(self, name: str, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Puts what an open file holds, in this thread alone.

        Args:
            progress: called with the bytes of each piece that goes out; what it raises ends the upload.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(use_threads=False)
        with in_words(self._uri(name), deed="write"):
            self._client.upload_fileobj(file, self._bucket, self._prefix + name, Config=config, Callback=progress)

    def delete(self, name: str) -> None:
        """Deletes an object; one that is not there is no error."""
        with in_words(self._uri(name), deed="write"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def drop_unfinished(self) -> None:
        """Deletes the parts of uploads that a killed process has left; they take room and no listing shows them."""
        with in_words(self.address, deed="write"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for row in page.get("Uploads", []):
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=row["Key"], UploadId=row["UploadId"])

    def _uri(self, name: str) -> str:
        return f"{self.address}/{name}"

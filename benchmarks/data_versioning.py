"""What buckets cost DVC beside one archive: `python -m benchmarks.data_versioning --images 35000 --bytes 5000`.

The same random images as ingest's buckets and as one tar: `dvc add`, and `dvc push` to a folder and to S3 on a server
of this machine, in turns, each in a project of its own. The median of the rounds, in seconds with DVC's own start; one
JSON object last.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from components import processes
from components.data.buckets import write_buckets

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def dvc(project: Path, *arguments: str) -> float:
    """Runs dvc in a project; returns the seconds."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
    subprocess.run(command, cwd=project, env=processes.environment(**KEYS), check=True)
    return time.perf_counter() - begin


def make_images(folder: Path, images: int, size: int) -> dict[str, Path]:
    """Both forms of the same bytes: ingest's folder of buckets, and a folder with one tar of the buckets' members."""
    rng = random.Random(0)
    forms = {"buckets": folder / "buckets", "one_tar": folder / "one_tar"}
    for path in forms.values():
        path.mkdir()
    write_buckets(((f"{number:06d}.png", rng.randbytes(size)) for number in range(images)), forms["buckets"])
    with tarfile.open(forms["one_tar"] / "all.tar", "w", format=tarfile.USTAR_FORMAT) as whole:
        for bucket in sorted(forms["buckets"].glob("*.tar")):
            with tarfile.open(bucket) as archive:
                for member in archive:
                    whole.addfile(member, archive.extractfile(member))
    shutil.copy(forms["buckets"] / "manifest.jsonl", forms["one_tar"])
    return forms


def fresh_bucket(endpoint: str) -> None:
    """Empties the S3 server and makes the bucket."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="bestiary")


def one_round(form: Path, folder: Path, endpoint: str) -> Iterator[tuple[str, float]]:
    """Each command and its seconds, in a new project: DVC remembers the files that it has seen in an old one."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        project = Path(name, "project")
        shutil.copytree(form, project / "data")
        dvc(project, "init", "--no-scm")
        yield "add_s", dvc(project, "add", "data")
        dvc(project, "remote", "add", "folder", str(Path(name, "remote")))
        yield "push_folder_s", dvc(project, "push", "--remote", "folder")
        fresh_bucket(endpoint)
        dvc(project, "remote", "add", "s3", "s3://bestiary/dvc")
        dvc(project, "remote", "modify", "s3", "endpointurl", endpoint)
        yield "push_s3_s", dvc(project, "push", "--remote", "s3")


def measure(images: int, size: int, rounds: int) -> dict[str, object]:
    """Times both forms in turns."""
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with tempfile.TemporaryDirectory() as name:
            forms = make_images(Path(name), images, size)
            files = len(list(forms["buckets"].iterdir()))
            for number in range(rounds):
                for form, path in forms.items():
                    for command, spent in one_round(path, Path(name), f"http://{host}:{port}"):
                        seconds[form][command].append(spent)
                        print(f"round {number + 1}, {form}, {command.removesuffix('_s')}: {spent:.1f} s", flush=True)
    finally:
        server.stop()
    medians = {
        form: {command: round(statistics.median(spent), 2) for command, spent in commands.items()}
        for form, commands in seconds.items()
    }
    return {"images": images, "image_bytes": size, "bucket_files": files, "rounds": rounds, **medians}


def main() -> None:
    """Reads the flags and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=35_000)
    parser.add_argument("--bytes", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    print(json.dumps(measure(flags.images, flags.bytes, flags.rounds)))


if __name__ == "__main__":
    main()

"""Runs as they lie in a folder and in a store, for tests of the copy."""

import json

import torch

from components.training import state
from components.training.backup import Backup
from components.training.state import State

ADDRESS = "s3://art/runs/"
LARGE = 6_000_000  # numbers: 24 MB, three parts


def kept(store):
    """The content of each object below the run's address."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="art", Prefix="runs/abc/")
    keys = [row["Key"] for page in pages for row in page.get("Contents", [])]
    return {
        key.removeprefix("runs/abc/"): store.get_object(Bucket="art", Key=key)["Body"].read() for key in sorted(keys)
    }


def held(run):
    """The content of each file of a run."""
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {name: files[name].read_bytes() for name in sorted(files)}


def checkpoint(run, nimg, numbers=10, seed=0):
    """Writes what a training has written by the time it has a checkpoint: picture, line, snapshot, checkpoint."""
    values = torch.rand(numbers, generator=torch.Generator().manual_seed(nimg + seed))
    snapshot = run / "snapshots" / f"{nimg:09d}"
    for path in (snapshot / "config.json", snapshot / "generator.safetensors", run / "grids" / f"{nimg:09d}.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{path.name} {nimg} {seed}".encode())
    for name in ("metrics.jsonl", "starts.jsonl"):
        with (run / name).open("a") as file:
            file.write(json.dumps({"nimg": nimg, "seed": seed}) + "\n")
    folder = run / "checkpoints" / f"{nimg:09d}"
    state.save(State({"values": values}, {"nimg": nimg}), folder)
    return folder


def copied(run, address=ADDRESS):
    with Backup(run, address):
        pass


def answer(handler, status, code):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)

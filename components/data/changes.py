"""What changed in the data between two versions, in words: `python -m components.data.changes [A [B]]`.

A and B are git revisions; without B the other side is the working tree, without A the first is HEAD. The files of
data/shards are read through DVC, from the working tree, the cache or the default remote, whichever has them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.config import InputError

SHARDS = "data/shards"
FILES = ("index.json", "images.jsonl", "rejected.jsonl", "report.json")
COUNTS = ("in", "kept", "rejected", "duplicates", "similar", "train", "holdout")
NAMED = 5  # images named in a line


@dataclass(frozen=True, kw_only=True)
class Image:
    """A kept image: a row of images.jsonl without its digest."""

    split: str
    name: str
    label: str | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """What data/shards holds at one revision."""

    digest: str
    images: Mapping[str, Image]  # by content digest
    rejected: Mapping[str, str]  # reason by name
    report: Mapping[str, Any]


def read_version(revision: str | None) -> Version:
    """The data of a git revision, or of the working tree.

    Raises:
        InputError: no project of git and DVC, no such revision, no data in it, or neither cache nor remote has it.
    """
    from botocore.exceptions import BotoCoreError  # here, for together they take a second to import
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    place = f"the data of {_name(revision)}"
    try:
        files = DVCFileSystem(repo=".", rev=revision)
        if files.info(SHARDS)["type"] != "directory":  # dvc.yaml names it, and it was not made yet
            raise FileNotFoundError(f"no {SHARDS} there")
        texts = {name: files.read_text(f"{SHARDS}/{name}", encoding="utf-8") for name in FILES}
    except DvcException as error:
        raise InputError(f"{place} cannot be read: {error}; allowed: a branch, tag or commit of this project") from None
    except (DataIndexDirError, BotoCoreError, OSError) as error:
        allowed = "a version that dvc repro has made, and that the cache or the remote still has"
        raise InputError(f"{place} cannot be read: {error.__cause__ or error}; allowed: {allowed}") from None
    return _parse(**{name.partition(".")[0]: text for name, text in texts.items()})


def _parse(*, index: str, images: str, rejected: str, report: str) -> Version:
    rows = [json.loads(line) for line in images.splitlines()]
    return Version(
        digest=json.loads(index)["digest"],
        images={row["digest"]: Image(split=row["split"], name=row["name"], label=row.get("label")) for row in rows},
        rejected={row["name"]: row["reason"] for row in map(json.loads, rejected.splitlines())},
        report=json.loads(report),
    )


def _name(revision: str | None) -> str:
    return "the working tree" if revision is None else repr(revision)


def describe(before: Version, after: Version) -> list[str]:
    """What changed, a line each; the first says whether it is the same data."""
    return [
        "the same data" if before.digest == after.digest else "other data",
        *_params(before.report["preprocess"], after.report["preprocess"]),
        *_counts(before.report, after.report),
        *_images(before, after),
        *_rejected(before.rejected, after.rejected),
    ]


def _params(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A parameter that only one version has is not set in the other."""

    def shown(params: Mapping[str, Any], key: str) -> str:
        return json.dumps(params[key]) if key in params else "not set"

    keys = dict.fromkeys([*before, *after])
    changed = [key for key in keys if shown(before, key) != shown(after, key)]
    return [f"preprocess.{key}: {shown(before, key)} → {shown(after, key)}" for key in changed]


def _counts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    known = [name for name in COUNTS if name in before and name in after]
    changed = [f"{name} {before[name]} → {after[name]}" for name in known if before[name] != after[name]]
    return [f"counts: {', '.join(changed)}"] if changed else []


def _images(before: Version, after: Version) -> list[str]:
    old, new = before.images, after.images
    kept = [(old[digest], new[digest]) for digest in old if digest in new]
    moved = Counter((was.split, now.split) for was, now in kept if was.split != now.split)
    relabelled = [now.name for was, now in kept if was.label != now.label]
    added = [new[digest].name for digest in new if digest not in old]
    gone = [old[digest].name for digest in old if digest not in new]
    lines = [
        *_named("new", added),
        *_named("gone", gone),
        *(f"moved from {was} to {now}: {count}" for (was, now), count in sorted(moved.items())),
        *_named("relabelled", relabelled),
    ]
    same_params = before.report["preprocess"] == after.report["preprocess"]
    if before.digest != after.digest and not lines and same_params:
        lines = ["the same images with other pixels or in another order: the code of preprocess changed"]
    return lines


def _named(what: str, names: list[str]) -> list[str]:
    """`new: 7 (a.png, b.png, …)`, or nothing."""
    if not names:
        return []
    first = sorted(names)[:NAMED]
    return [f"{what}: {len(names)} ({', '.join([*first, '…'] if len(names) > NAMED else first)})"]


def _rejected(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    def reasons(what: str, names: Iterable[str], by: Mapping[str, str]) -> list[str]:
        counts = Counter(by[name] for name in names)
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
        return [f"{what}: {told}"] if told else []

    return [
        *reasons("rejected now", (name for name in after if before.get(name) != after[name]), after),
        *reasons("no longer rejected", (name for name in before if name not in after), before),
    ]


def main() -> None:
    """Reads the revisions and prints what changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", nargs="?", default="HEAD", help="git revision, HEAD if not given")
    parser.add_argument("b", nargs="?", help="git revision, the working tree if not given")
    flags = parser.parse_args()
    try:
        before, after = read_version(flags.a), read_version(flags.b)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    print(f"{_name(flags.a)} {before.digest[:12]} → {_name(flags.b)} {after.digest[:12]}")
    print("\n".join(describe(before, after)))


if __name__ == "__main__":
    main()

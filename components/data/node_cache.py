"""Training arrays on the node that needs them: where the project's folder is not shared, one `dvc pull` a node.

The driver packs what `dvc pull` reads (project_files); a worker unpacks it where no project is (local_shards).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from components.config import InputError

FILES = ("dvc.yaml", "dvc.lock", "params.yaml")
CONFIG = ".dvc/config"
SETTINGS = ("url", "endpointurl", "region", "profile", "use_ssl", "ssl_verify")  # of a remote; no credentials travel
SHARDS = "data/shards"


def project_files(root: Path = Path()) -> dict[str, str] | None:
    """What `dvc pull data/shards` needs of the project in `root`: file names and texts, a few kB, no credentials.

    Returns:
        None where there is nothing to pull from: no default remote, or no dvc.lock.
    """
    if not (root / ".dvc").is_dir() or not (root / "dvc.lock").is_file():
        return None
    from dvc.config import Config  # half a second to import

    settings = Config(str(root / ".dvc"))  # with .dvc/config.local, relative folders made absolute
    name = settings["core"].get("remote")
    remote = settings["remote"].get(name)
    if remote is None:
        return None
    lines = ["[core]", "no_scm = true", "analytics = false", "check_update = false", f'remote = "{name}"']
    # With links the pulled files exist once; removing the scratch folder's cache leaves the data.
    lines += ["[cache]", 'type = "reflink,hardlink,copy"', f"['remote \"{name}\"']"]
    lines += [f'{key} = "{remote[key]}"' for key in SETTINGS if key in remote]
    texts = {file: (root / file).read_text(encoding="utf-8") for file in FILES}
    return {**texts, CONFIG: "\n".join([*lines, ""])}


def cache_folder() -> Path:
    """This node's place for pulled data: bestiary/ in XDG_CACHE_HOME or ~/.cache. Old data in it may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bestiary"


def local_shards(shards: Path, digest: str, project: Mapping[str, str] | None, cache: Path) -> Path:
    """A folder on this node with the shards of a data digest.

    That is `shards` itself where it is here (one machine, or a shared file system). Elsewhere it is <cache>/<digest>,
    pulled once: other processes of the node wait for the first one. What lies there is checked before it is used.

    Args:
        project: what project_files() gave on the driver.

    Raises:
        InputError: the data is not here and there is no remote, or the remote does not hold it whole.
    """
    if _index(shards)[0] == digest:
        return shards
    short = f"data {digest[:12]}"
    if project is None:
        allowed = "a shared folder, or a default DVC remote (dvc remote add) that dvc push has filled"
        raise InputError(f"{short} is not in {shards} on this node and there is no DVC remote; allowed: {allowed}")
    folder = cache / digest
    try:
        if _damage(folder, digest) is not None:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{digest}.lock"):
                if _damage(folder, digest) is not None:
                    _pull(folder, digest, project)
    except OSError as error:
        raise InputError(f"{short} cannot be kept in {cache} ({error}); allowed: a writable XDG_CACHE_HOME") from None
    return folder


def _pull(folder: Path, digest: str, project: Mapping[str, str]) -> None:
    """Fills `folder` through a scratch project of its own beside it."""
    scratch = folder.with_name(f".{folder.name}.scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for name, text in project.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(text, encoding="utf-8")
        # The scratch project has a DVC cache of its own: DVC trusts what is in a cache, so one that is kept could give
        # back damaged files. Nothing is lost: one image more in the sorted order changes every shard after it.
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "pull", SHARDS], cwd=scratch, capture_output=True, text=True, errors="replace"
        )
        damage = _damage(scratch / SHARDS, digest) if done.returncode == 0 else _reason(done.stderr)
        if damage is not None:
            allowed = "data of this dvc.lock that dvc push has put there"
            raise InputError(f"data {digest[:12]} cannot be pulled from the DVC remote: {damage}; allowed: {allowed}")
        shutil.rmtree(folder, ignore_errors=True)
        (scratch / SHARDS).rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reason(stderr: str) -> str:
    """DVC's own words, from its first error on, in one line."""
    return " ".join(stderr[max(stderr.find("ERROR: "), 0) :].split())


def _index(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The data digest and each shard's SHA-256 that a folder's index.json names; None where it is missing or broken."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        entries = [entry for split in index["splits"].values() for entry in split]
        entries += [entry for name, entry in (index["labels"] or {}).items() if name != "names"]
        return str(index["digest"]), {entry["file"]: entry["sha256"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _damage(folder: Path, digest: str) -> str | None:
    """Why a folder is not the data of this digest, whole; None where it is."""
    found, shards = _index(folder)
    if found != digest:
        return f"its index.json names the digest {found}"
    for name, expected in shards.items():
        path = folder / name
        if not path.is_file() or _sha256(path) != expected:
            return f"{name} is missing or damaged"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

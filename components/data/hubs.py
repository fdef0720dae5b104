"""Data sets of Kaggle and of the Hugging Face hub, through their own clients, each an optional extra."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.config import InputError
from components.data.archives import Files, Refused, check_size, refusing
from components.data.folders import read_folder

ROWS = 64  # of a parquet file, in memory at a time


def read_kaggle(dataset: str, version: int) -> Files:
    """Streams the files of a data set's version, downloaded and unpacked by kagglehub into its cache.

    Raises:
        InputError: no kagglehub, no credentials, no such data set or version, no answer.
    """
    what = f"kaggle: {dataset}, version {version}"
    try:
        import kagglehub
        import requests
        from kagglehub.exceptions import BackendError, DataCorruptionError, UnauthenticatedError
    except ImportError:
        raise InputError(f"{what} needs kagglehub; allowed: after pip install 'bestiary[kaggle]'") from None
    try:
        folder = kagglehub.dataset_download(f"{dataset}/versions/{version}")
    except UnauthenticatedError:
        raise _no_kaggle_access(what) from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise _no_kaggle_access(what) from None
        raise InputError(f"{what} answered {status}; allowed: a data set and version that are there") from None
    except (requests.RequestException, BackendError, DataCorruptionError, OSError, ValueError) as error:
        raise InputError(
            f"{what} cannot be fetched ({error}); allowed: a data set and version that are there"
        ) from None
    yield from read_folder(Path(folder))


def _no_kaggle_access(what: str) -> InputError:
    return InputError(f"{what} needs credentials; allowed: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, set")


def read_hugging_face(repo: str, revision: str, folder: str | None) -> Files:
    """Streams the files of a data set's commit; of a parquet file, the images in its rows.

    Raises:
        InputError: no huggingface_hub, no access, no such repository, commit or folder, no answer.
    """
    what = f"huggingface: {repo}, revision {revision}"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(f"{what} needs huggingface_hub; allowed: after pip install 'bestiary[huggingface]'") from None
    with _in_words(what):
        root = Path(
            snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision,
                allow_patterns=f"{folder}/**" if folder else None,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    root = root / folder if folder else root
    if not root.is_dir():
        raise InputError(f"{what} has no folder {folder!r}; allowed: a folder of the repository")
    # The client's cache is made of links to files beside it, which a folder's walk would refuse.
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            yield name, Refused("hidden file")
            continue
        columns = _image_columns(path) if path.suffix == ".parquet" else []
        if columns:
            yield from _read_rows(path, name, columns)
        else:
            check_size(name, path.stat().st_size)
            yield name, path.read_bytes()


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.LocalTokenNotFoundError):
        raise InputError(f"{what} is not there or needs access; allowed: a public one, or with HF_TOKEN set") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{what}: no such commit; allowed: a commit of the repository") from None
    except (errors.HfHubHTTPError, httpx2.HTTPError, errors.HFValidationError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{what} cannot be fetched ({said[0]}); allowed: a hub that answers") from None


def _image_columns(path: Path) -> list[str]:
    """The columns that hold images as the hub stores them: {bytes, path}."""
    import pyarrow as pa
    from pyarrow import parquet

    with refusing(path, "is a damaged parquet file", "an intact one"):
        schema = parquet.read_schema(path)
    return [f.name for f in schema if pa.types.is_struct(f.type) and {"bytes", "path"} <= {g.name for g in f.type}]


def _read_rows(path: Path, name: str, columns: list[str]) -> Files:
    from pyarrow import parquet

    with refusing(path, "is a damaged parquet file", "an intact one"), parquet.ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            for cells in batch.to_pylist():
                for column in columns:
                    yield f"{name}/{column}/{row:07d}", _image(name, cells[column])
                row += 1


def _image(name: str, cell: dict[str, Any] | None) -> bytes | Refused:
    content = cell and cell["bytes"]
    if not content:
        return Refused("a row without an image")
    check_size(name, len(content))
    return bytes(content)

"""Copies of the checkout to run in: what git tracks with what is not committed yet; the rest is linked.

The checkout's own remain runs/, MLflow's store, the caches, and files that git does not track. Neither git's index nor
its refs change when a copy is made, and keeping one adds a ref: the name by which DVC finds it as an experiment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components import processes
from components.config import InputError
from flows.stages import StageError

FOLDER = Path(".experiments")
SHARED_FOLDERS, STORE = ("runs", ".cache", "mlruns"), "mlflow.db"
UP = ".up"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What a copy is made of; every path is relative to the checkout, in which all is done."""

    name: str
    params: str  # the text of its params.yaml
    head: str  # the checkout's commit
    tree: str  # of git: the files
    inputs: tuple[Path, ...]  # that params name

    @property
    def ref(self) -> str:
        """Where DVC looks for an experiment of a commit."""
        return f"refs/exps/{self.head[:2]}/{self.head[2:]}/{self.name}"

    @property
    def home(self) -> Path:
        """All that belongs to it."""
        return FOLDER / self.name

    @property
    def folder(self) -> Path:
        """Where to run: as far below home as inputs are above the checkout."""
        return self.home.joinpath(*[UP] * max((path.parts.count("..") for path in self.inputs), default=0))

    def make(self) -> None:
        """The copy appears, whole or not at all, as it was at its end where it has been kept before.

        Raises:
            StageError: git or DVC does not do its part.
        """
        with _scratch() as home:
            folder = (home / self.folder.relative_to(self.home)).absolute()
            _check_out(self, folder)
            _share(folder)
            (folder / "params.yaml").write_text(self.params, encoding="utf-8")
            _command("dvc", "checkout", "--quiet", "--allow-missing", cwd=folder)
            for path in self.inputs:
                link = Path(os.path.normpath(folder / path))
                if not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path.absolute())
            home.rename(self.home)

    def keep(self) -> None:
        """Commits its files on the checkout's commit, and gives the checkout that commit. Raises as make()."""
        folder = self.folder.absolute()
        linked = [*map(Path, (*SHARED_FOLDERS, STORE)), *self.inputs]
        inside = [str(path) for path in linked if (folder / path).is_symlink() and ".." not in path.parts]
        git("update-ref", "--no-deref", "HEAD", self.head, cwd=folder)  # where it was kept already
        git("add", "--all", ":/", cwd=folder)
        git("--literal-pathspecs", "reset", "--quiet", "HEAD", "--", *inside, cwd=folder)
        who = [f"{key}={git('config', '--default', 'bestiary', '--get', key)}" for key in ("user.name", "user.email")]
        commit = ("commit", "--quiet", "--no-verify", "--no-gpg-sign", "--allow-empty", f"--message={self.name}")
        git("-c", who[0], "-c", who[1], *commit, cwd=folder)
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
        git("fetch", *quiet, str(folder), f"+HEAD:{self.ref}")


def tracked() -> tuple[str, str]:
    """The checkout's commit, and what git tracks as it lies there, as a tree of git.

    Raises:
        InputError: no git, no repository, or no commit.
    """
    try:
        head = git("rev-parse", "--verify", "HEAD")
    except StageError as error:
        said = " ".join(str(error).split())
        raise InputError(f"{said}; allowed with other values than params.yaml's: a commit to start from") from None
    with _scratch() as folder:
        index = shutil.copy2(git("rev-parse", "--git-path", "index"), folder.absolute())
        own = os.environ | {"GIT_INDEX_FILE": str(index)}
        git("add", "--update", ":/", env=own)
        return head, git("write-tree", env=own)


def tracked_in_part(path: Path) -> bool:
    """Whether git tracks some files of a folder and not others, hidden ones aside."""
    if ".." in path.parts or not git("ls-files", "--", str(path)):
        return False
    others = git("ls-files", "--others", "-z", "--", str(path)).split("\0")
    return any(other and not Path(other).name.startswith(".") for other in others)


def git(*arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a git command prints.

    Raises:
        InputError: there is no git.
        StageError: it fails.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"git does not run: {error.strerror}; allowed with other values than params.yaml's: git"
        ) from None
    if done.returncode:
        raise StageError(f"git {arguments[0]} ended with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder, for one process at a time; what a killed one left in it is gone."""
    folder = FOLDER / ".partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_out(copy: Copy, folder: Path) -> None:
    """A repository on the checkout's objects and commit, with the files."""
    objects, shallow = (Path(git("rev-parse", "--git-path", name)) for name in ("objects", "shallow"))
    git("init", "--quiet", "--template=", str(folder))
    (folder / ".git/objects/info/alternates").write_text(f"{objects.resolve()}\n", encoding="utf-8")
    if shallow.exists():
        shutil.copy2(shallow, folder / ".git/shallow")
    kept = git("for-each-ref", "--format=%(objectname)", copy.ref)
    git("update-ref", "--no-deref", "HEAD", copy.head, cwd=folder)
    git("read-tree", "HEAD", cwd=folder)
    git("restore", "--worktree", f"--source={kept or copy.tree}", ":/", cwd=folder)


def _share(folder: Path) -> None:
    """Links to what runs have in common; DVC's cache and remotes, whatever the checkout's paths are relative to."""
    from dvc.config import Config, merge  # half a second to import

    for name in SHARED_FOLDERS:
        Path(name).mkdir(exist_ok=True)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        _command("components.tracking")  # a store's paths are those of where it was made
    for name in (*SHARED_FOLDERS, STORE):
        (folder / name).symlink_to(Path(name).absolute())
    here = Config(str(Path(".dvc").absolute()))
    with Config(str(folder / ".dvc")).edit("local") as local:
        for level in ("repo", "local"):
            merge(local, here.read(level))
        local["cache"]["dir"] = here["cache"].get("dir") or str(Path(".dvc/cache").absolute())


def _command(module: str, *arguments: str, cwd: Path | None = None) -> None:
    said: list[str] = []
    if code := processes.run([sys.executable, "-m", module, *arguments], on_line=said.append, cwd=cwd):
        raise StageError(f"{module} ended with exit code {code}: {' '.join(said[-1:])}")

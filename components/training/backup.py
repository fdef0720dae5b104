"""A run's copy on S3, kept up to date in the background while it trains, and fetched where less of it is here.

s3://bucket/prefix/<run key>/ has the names of runs/<run key>/. Once a checkpoint can be seen there (its state.json is
sent last), all of the run up to it is there: grids and snapshots were sent before it, and its lines after its tensors.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from components.config import InputError
from components.config.checks import check as require
from components.config.training import S3_ADDRESS
from components.data.files import fingerprint
from components.data.object_folder import ObjectFolder
from components.data.object_store import THREADS
from components.training import state
from components.training.run_files import (
    CHECKPOINTS,
    INITIAL,
    LAST,
    LINES,
    NUMBERED,
    Unit,
    is_checkpoint,
    names,
    nimg,
    title,
    units,
)

PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # between tries
CLOSING_S = 60.0  # that the end of a training waits for the copy
FETCHING, FETCHED = ".fetching", ".fetched"  # in the run's folder: on the way, and whole

Mark = list[tuple[int, int, int]]  # of each file of a unit


class _Abandoned(Exception):  # noqa: N818  an order, not an error
    """The time that a training's end has for its copy is over."""


def check(address: str) -> None:
    """Does below an address, with a small object, what keeping a copy does there.

    Raises:
        InputError: the address is malformed, or the store does not answer, refuses, or gives back something else.
    """
    require(S3_ADDRESS.fullmatch(address) is not None, "execution.backup", address, "s3://bucket/prefix")
    name, content = "object", os.urandom(1000)
    try:
        folder = ObjectFolder(f"{address.rstrip('/')}/round-trip-{uuid.uuid4().hex}")
        folder.write(name, content)
        try:
            found = folder.read(name)
            folder.drop_unfinished()
        finally:
            folder.delete(name)
        left = folder.sizes()
    except InputError as error:
        raise InputError(f"execution.backup: {error}") from None
    if found != content or left:
        raise InputError(f"execution.backup: {address!r} does not keep what was written; allowed: a store that does")


class Backup:
    """Keeps the copy up to date in one thread, while its block lasts.

    Nothing that goes wrong on the way there reaches the block: it is said once, and tried again for ever. The block's
    end waits up to CLOSING_S for the last of it; one line says what is not there then.
    """

    def __init__(self, run: Path, address: str) -> None:
        self._run, self._copy = run, _copy_of(run, address)
        # What earlier trainings sent up to here stays as it is; what lies after it is made anew.
        self._settled = max((nimg(unit) for unit in units(names(run)) if is_checkpoint(unit)), default=0)
        self._names: set[str] = set()  # of all objects there
        self._sent: dict[Unit, Mark] = {}
        self._looked = False
        self._wanted, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="backup", daemon=True)

    def __enter__(self) -> Backup:
        self._thread.start()
        return self

    def send(self) -> None:
        """Asks for the copy to be brought up to date, and returns at once; calls during a round make one more."""
        self._wanted.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._wanted.set()
        self._thread.join(CLOSING_S)
        if self._thread.is_alive():
            self._abandoned.set()
            here = sorted(units(names(self._run)), key=lambda unit: not is_checkpoint(unit))
            missing = [title(unit) for unit in here if not self._has(unit)]
            more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
            if missing:
                print(f"backup: {self._copy.address} lacks {', '.join(missing[:4])}{more}", flush=True)

    def _serve(self) -> None:
        last = False
        while not last:
            self._wanted.wait()
            self._wanted.clear()
            last = self._closing.is_set()  # a round that begins now finds all there will be
            self._insist()

    def _insist(self) -> None:
        """One round, tried until it goes through."""
        pause, said = PAUSE_S, False
        while not self._abandoned.is_set():
            try:
                self._round()
            except _Abandoned:
                return
            except Exception as error:  # whatever network, store and disk raise
                if not said:
                    print(f"backup: {' '.join(str(error).split())}; it is tried again until it works", flush=True)
                said = True
            else:
                if said:
                    print(f"backup: {self._copy.address} is up to date again", flush=True)
                return
            if self._closing.wait(pause):
                self._abandoned.wait(PAUSE_S)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _round(self) -> None:
        if not self._looked:
            self._look()
        for unit in units(names(self._run)):
            if unit[0] not in LINES:
                self._bring(unit)
        self._bring_lines()
        self._prune()

    def _look(self) -> None:
        """Finds out what earlier trainings have sent, and clears away what they left half."""
        self._copy.drop_unfinished()
        sizes = self._copy.sizes()
        self._names = set(sizes)
        for unit in units(names(self._run)):
            mark = self._mark(unit)
            if mark and [sizes.get(name) for name in unit] == [size for _, size, _ in mark] and self._is_same(unit):
                self._sent[unit] = mark
        self._looked = True

    def _is_same(self, unit: Unit) -> bool:
        """Whether what has a unit's name and size there is what is here."""
        if is_checkpoint(unit):
            return self._copy.read(unit[-1]) == (self._run / unit[-1]).read_bytes()  # with the digest of all
        return unit[0].startswith(f"{INITIAL}/") or (unit[0] not in LINES and nimg(unit) <= self._settled)

    def _mark(self, unit: Unit) -> Mark | None:
        try:
            return [fingerprint(self._run / name) for name in unit]
        except FileNotFoundError:  # retention was faster
            return None

    def _has(self, unit: Unit) -> bool:
        return self._sent.get(unit) == self._mark(unit)

    def _bring(self, unit: Unit) -> None:
        """Sends a unit where it is not there as it is here; one that is deleted meanwhile is sent to its end."""
        mark = self._mark(unit)
        if mark is None or self._sent.get(unit) == mark:
            return
        with ExitStack() as opened:
            try:
                files = [opened.enter_context((self._run / name).open("rb")) for name in unit]
            except FileNotFoundError:
                return
            if len(unit) > 1:
                self._delete(unit[-1])  # of another content: it would make the new files count as whole
            for name, file in zip(unit, files, strict=True):
                if is_checkpoint(unit) and name == unit[-1]:
                    self._bring_lines()
                self._names.add(name)
                self._copy.upload(name, file, self._go_on)
        self._sent[unit] = mark

    def _bring_lines(self) -> None:
        for name in LINES:
            if (mark := self._mark((name,))) and self._sent.get((name,)) != mark:
                self._names.add(name)
                content = (self._run / name).read_bytes()
                self._copy.write(name, content[: content.rfind(b"\n") + 1])  # the next one may be half written
                self._sent[name,] = mark

    def _prune(self) -> None:
        """Deletes there what retention has deleted here, once the newest checkpoint is there."""
        here = units(names(self._run))
        newest = next((unit for unit in here if is_checkpoint(unit)), None)
        if newest is None or not self._has(newest):
            return
        kept = {name for unit in here for name in unit}
        gone = [name for name in self._names - kept if name.split("/")[0] in NUMBERED]
        for name in sorted(gone, key=lambda name: not name.endswith(LAST)):
            self._delete(name)
        self._sent = {unit: mark for unit, mark in self._sent.items() if unit[-1] in self._names}

    def _delete(self, name: str) -> None:
        if name in self._names:
            self._copy.delete(name)
            self._names.remove(name)

    def _go_on(self, _: int) -> None:
        if self._abandoned.is_set():
            raise _Abandoned


def fetch(run: Path, address: str) -> bool:
    """Brings a run's copy over where it has a newer whole checkpoint than the run's folder; nothing may train there.

    It is fetched into a folder of its own, checked, and made whole by one rename; a kill before that leaves what was,
    and after it the next call finishes. The copy's files take the places of the run's; others of the run stay, as they
    do where a killed training goes on from an older checkpoint.

    Returns:
        Whether the run's folder has got further.

    Raises:
        InputError: the store refuses or does not answer.
    """
    finished = (run / FETCHED).exists() and _put(run)
    copy = _copy_of(run, address)
    there = units(copy.sizes())
    checkpoints = [unit for unit in there if is_checkpoint(unit)]
    reached = _reached(run)
    if not checkpoints or nimg(checkpoints[0]) <= reached:
        return finished
    fresh = run / FETCHING
    shutil.rmtree(fresh, ignore_errors=True)
    if good := _fetch_checkpoints(copy, checkpoints, fresh, reached):
        files = [name for unit in there if not is_checkpoint(unit) for name in unit]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") as pool:
            list(pool.map(lambda name: copy.download(name, fresh / name), files))
        os.sync()
        fresh.rename(run / FETCHED)
        _put(run)
        print(f"run {run.name}: {nimg(good[0]) / 1000:g} kimg fetched from {copy.address}", flush=True)
    shutil.rmtree(fresh, ignore_errors=True)
    return finished or bool(good)


def _fetch_checkpoints(copy: ObjectFolder, checkpoints: list[Unit], fresh: Path, reached: int) -> list[Unit]:
    """Fetches the good ones; none where none of them is newer than what the run has reached."""
    good: list[Unit] = []
    for unit in checkpoints:
        if not good and nimg(unit) <= reached:
            break
        for name in unit:
            copy.download(name, fresh / name)
        try:
            state.load(fresh / title(unit))
        except ValueError as error:
            print(f"backup: {title(unit)} in {copy.address} is damaged ({error})", flush=True)
            shutil.rmtree(fresh / title(unit))
        else:
            good.append(unit)
    return good


def _put(run: Path) -> bool:
    """Moves what was fetched to its places, the newest checkpoint after all that it needs; may begin anew anywhere.

    Returns:
        False where it was left by a kill, and the run has been trained on without it.
    """
    fetched = run / FETCHED
    left = units(names(fetched))
    others = [unit for unit in left if not is_checkpoint(unit)]
    if others and nimg(left[len(others)]) <= _reached(run):
        shutil.rmtree(fetched)
        return False
    for unit in left:
        source, target = fetched / title(unit), run / title(unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            aside = fetched / "aside" / title(unit)
            aside.parent.mkdir(parents=True, exist_ok=True)
            target.rename(aside)
        source.replace(target)
    shutil.rmtree(fetched)
    return True


def _reached(run: Path) -> int:
    """The newest whole checkpoint here; -1 where there is none."""
    saved, _ = state.latest(run / CHECKPOINTS)
    return int(saved.numbers["nimg"]) if saved else -1


def _copy_of(run: Path, address: str) -> ObjectFolder:
    return ObjectFolder(f"{address.rstrip('/')}/{run.name}")

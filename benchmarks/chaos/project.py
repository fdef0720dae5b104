"""A project under disturbance: what of it is alive, how far its run is, and the one command that starts it again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.services import PATIENCE_S, POLL_S, Services, Store
from components.data.files import read_json_lines

TINY: dict[str, Any] = {
    "preprocess.resolution": 16,
    "train.batch": 8,
    "train.channel_base": 256,
    "train.channel_max": 16,
    "train.latent_dim": 16,
    "train.stylegan.stable_kimg": 1,
    "train.stylegan.fade_kimg": 1,
    "execution.device": "cpu",
    "execution.workers": 2,
    "execution.threads": 1,
    "execution.tick_kimg": 0.2,
    "execution.checkpoint_kimg": 0.4,
    "execution.hang_s": 20,
    "evaluate.samples": 32,
    "evaluate.every_kimg": 0,
}
MARK = "CHAOS"  # in the environment of all that is started, with the value of `mark` or of `mark_of_services`


@dataclass
class Chaos:
    """A project under disturbance.

    Attributes:
        environment: of the flow.
        run: the run's folder, as soon as its name is known.
        flow: the process that a person would have started.
        extra: what the next start has in its environment beside that.
        repeated: images that were shown again, of each disturbance that made the training begin again.
    """

    project: Path
    environment: dict[str, str]
    services: Services
    store: Store
    run: Path = Path("none")
    flow: subprocess.Popen[bytes] | None = None
    extra: dict[str, str] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────

    def reached(self) -> int:
        """Images shown, to the tick."""
        lines = read_json_lines(self.run / "metrics.jsonl")
        return int(lines[-1]["nimg"]) if lines else 0

    def checkpoints(self) -> list[Path]:
        return sorted((self.run / "checkpoints").glob("[0-9]*"))

    def starts(self) -> list[dict[str, Any]]:
        return read_json_lines(self.run / "starts.jsonl")

    def alive(self, words: str = "", *marks: str) -> list[psutil.Process]:
        """What the flow, or what has these marks, has started, wherever it moved, with words in its command line."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = process.environ().get(MARK) in (marks or (mark(self.project),))
                if mine and process.status() != psutil.STATUS_ZOMBIE and words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    @property
    def log(self) -> Path:
        return self.project / "flow.log"

    def says(self, words: str) -> Callable[[], bool]:
        """Whether the flow has said words since now."""
        place = self.log.stat().st_size

        def said() -> bool:
            with self.log.open("rb") as file:
                file.seek(place)
                return words.encode() in file.read()

        return said

    # ── what is done to it ────────────────────────────────────────────────────────────────────────────────────────

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of the project, begun; into the flow's log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=self.project,
                env=self.environment | self.extra,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Awaits it, starting the flow again when it has failed. False when the flow went well first."""
        deadline, signs = 0.0, None
        while not condition():
            if signs != self._signs():
                deadline, signs = time.monotonic() + PATIENCE_S, self._signs()
            assert time.monotonic() < deadline, f"nothing comes of it: {self.log}"
            code = None if self.flow is None else self.flow.poll()
            if code == 0:
                return False
            if self.flow is None or code is not None:
                self.flow = self.command("flows")
            time.sleep(POLL_S)
        return True

    def _signs(self) -> list[int]:
        """What changes while a run gets further."""
        return [path.stat().st_size for path in sorted(self.project.glob("runs/*/metrics.jsonl"))]

    def need(self, condition: Callable[[], bool], what: str) -> None:
        """wait_until() of what has to come about before the run's end."""
        assert self.wait_until(condition), f"the run has ended before: {what}"

    def stop(self) -> None:
        """As a cancelled flow run, or a node that is taken away with notice."""
        assert self.flow is not None
        self.flow.terminate()
        self.flow.wait(PATIENCE_S)
        self.flow = None

    def begin_again(self, **extra: str) -> None:
        """Stops the flow and starts it with more in its environment; returns when it trains."""
        starts, self.extra = len(self.starts()), extra
        self.stop()
        self.need(lambda: len(self.starts()) > starts, "another start")

    def victims(self, words: str) -> list[psutil.Process]:
        """alive() of what has to be there."""
        self.need(lambda: bool(self.alive(words)), words)
        return self.alive(words)

    def kill(self, words: str) -> None:
        """kill -9 of one process."""
        self.victims(words)[-1].kill()


def mark(project: Path) -> str:
    return str(project)


def mark_of_services(project: Path) -> str:
    return f"{project}: services"

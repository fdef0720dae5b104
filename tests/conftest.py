"""What all tests share: telemetry off, skips that must be on a list, and a small copy of the project to run in."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from components import processes
from tests.toy import prefect_server

ROOT = Path(__file__).parents[1]
COPIED = (
    *("components", "flows", "pipelines", "presets", "sources", "sweeps", "params.yaml", "dvc.yaml", "prefect.yaml"),
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "pyproject.toml"),
)
TINY = {  # the whole chain in a few seconds beside its imports
    "ingest.source": "sources/tiny.yaml",
    "preprocess.resolution": 16,
    "train.batch": 8,
    "train.total_kimg": 0.4,
    "train.channel_base": 128,
    "train.channel_max": 16,
    "train.latent_dim": 16,
    "train.stylegan.stable_kimg": 0.1,
    "train.stylegan.fade_kimg": 0.1,
    "train.ema_kimg": 0.1,
    "execution.device": "cpu",
    "execution.workers": 1,
    "execution.threads": 1,
    "execution.tick_kimg": 0.1,
    "execution.checkpoint_kimg": 0.2,
    "evaluate.samples": 32,
    "evaluate.every_kimg": 0.2,
}
TINY_SOURCE = {"kind": "drawn", "count": 120, "size": 32, "seed": 0}


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, with one commit."""

    path: Path

    def set(self, values: dict[str, object]) -> None:
        """Changes params.yaml by dotted keys: {"train.total_kimg": 1}."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for dotted, value in values.items():
            *sections, key = dotted.split(".")
            place = params
            for section in sections:
                place = place[section]
            place[key] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess:
        """Runs a command in the copy, where `python` is this interpreter; stdout and stderr come merged."""
        lines = []
        env = processes.environment(PYTHONPATH=str(self.path), **environment)
        code = processes.run(argv, env=env, cwd=self.path, on_line=lines.append)
        return subprocess.CompletedProcess(argv, code, stdout="".join(f"{line}\n" for line in lines))

    def stages(self, *names: str) -> str:
        """Runs the entry points of stages, which must end well. Returns what the last one said."""
        for name in names:
            done = self.run(sys.executable, "-m", f"pipelines.{name}")
            assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def commit(self) -> None:
        """Commits all there is."""
        for arguments in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", "test"]):
            subprocess.run(["git", *GIT_IDENTITY, *arguments], cwd=self.path, check=True)


GIT_IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def project(tmp_path) -> Project:
    """A copy of the project with a tiny configuration."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A Prefect server with a database of its own."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as found:
        yield found


@pytest.fixture(scope="module")
def module_project(tmp_path_factory) -> Project:
    """One for all tests of a file that build on each other's outputs."""
    return make_project(tmp_path_factory.mktemp("shared") / "project")


def make_project(path: Path) -> Project:
    """The copy; for fixtures of a wider scope."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    (path / "sources/tiny.yaml").write_text(yaml.safe_dump(TINY_SOURCE))
    subprocess.run(["git", "init", "--quiet"], cwd=path, check=True)
    made = Project(path)
    made.set(TINY)
    made.commit()
    return made


def pytest_configure(config: pytest.Config) -> None:
    """Before any import of Prefect or MLflow: no telemetry, nothing of the user's own settings.

    Ctrl-C is heard by what tests start, also where the tests run in a shell's background, which leaves it ignored. One
    thread each: two tests of two threads on two cores wait for each other, and take six times as long.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each stage compiles its copy of the project anew
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(processes.TELEMETRY_OFF)
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    config.stash[_HOME] = tempfile.TemporaryDirectory(prefix="bestiary-tests-")
    os.environ["PREFECT_HOME"] = config.stash[_HOME].name


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_HOME].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (ROOT / "tests/slow") in item.path.parents:
            item.add_marker(pytest.mark.slow)


_HOME = pytest.StashKey[tempfile.TemporaryDirectory]()
_SKIPS: dict[str, list[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skip(report)


def _note_skip(report) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        _SKIPS.setdefault(reason, []).append(report.nodeid)


def _refused() -> list[str]:
    lines = (ROOT / "tests/allowed_skips.txt").read_text().splitlines()
    allowed = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    return sorted(set(_SKIPS) - allowed)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _refused() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    if not _SKIPS:
        return
    terminalreporter.section("skips by reason")
    for reason, tests in sorted(_SKIPS.items()):
        verdict = "NOT on tests/allowed_skips.txt: fails" if reason in _refused() else "allowed"
        terminalreporter.line(f"{len(tests)} × {reason} ({verdict})")
        for test in tests:
            terminalreporter.line(f"    {test}")

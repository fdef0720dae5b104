"""pipelines.stage: how an entry point ends."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

CODE = """if True:
    import sys
    from pipelines import stage
    def main():
        for number in range(3):
            print("a line" * 10_000, flush=True)
            print("another", file=sys.stderr)
        sys.exit(7)
    stage(main)
"""


def test_output_that_finds_no_disk_ends_nothing():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", CODE], stdout=full, stderr=full, check=False)
    assert done.returncode == 7


def test_output_that_nobody_reads_ends_nothing():
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        process.stdout.close()
        assert process.wait() == 7


BEGUN = """
import gc
before = gc.isenabled()
from pipelines import stage
def main():
    print(before, gc.isenabled(), gc.get_freeze_count() > 1000)
stage(main)
"""


def test_garbage_is_looked_for_but_while_a_stage_is_imported(tmp_path):
    """A stage is `python -m PACKAGE.NAME`; whoever else imports the package goes on as it was."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("import pipelines")
    (tmp_path / "package/begun.py").write_text(BEGUN)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for command, expected in ((["-m", "package.begun"], "False True True"), (["-c", BEGUN], "True True True")):
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected

"""pipelines.stage: how an entry point ends."""

import subprocess
import sys
from pathlib import Path

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

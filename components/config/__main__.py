"""Writes a preset or single values into params.yaml: `python -m components.config --preset gpu-64 --set KEY=VALUE`."""

from __future__ import annotations

import argparse
import sys

from components.config import InputError
from components.config.overlay import add_flags, parse_settings, write_params


def main() -> int:
    """Prints what it changes; returns the exit code: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m components.config", description=__doc__)
    add_flags(parser)
    flags = parser.parse_args()
    try:
        changes = write_params(flags.preset, parse_settings(flags.set))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(changes) or "params.yaml says so already")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m components.tracking` makes MLflow's store, and the project's experiment in it, where they are missing.

A local store remembers the folder in which it was made as the place of its files.
"""

from __future__ import annotations

from components.tracking.runs import open_experiment

if __name__ == "__main__":
    print(f"MLflow's experiment is {open_experiment()}")

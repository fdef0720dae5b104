"""Shows a run while it trains: follows metrics.jsonl, draws a bar and prints a line a tick and a start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from components.config import InputError
from components.data.files import fingerprint, read_json_lines
from components.training.run_files import METRICS, STARTS

POLL_S = 0.5


@contextmanager
def following(run: Path, total_kimg: float, *on_tick: Callable[[], None], last: Callable[[], None]) -> Iterator[None]:
    """For the time of the block, shows each new tick of a run and then makes the calls, in a thread of its own.

    After a block that went well come `last` and once more the calls.
    """
    stop = threading.Event()
    bar_format = "{l_bar}{bar}| {n:.1f}/{total:.1f} kimg{postfix}"
    # Its times are the run's own: tqdm's are off for good when the clock is set.
    # Made in this thread: tqdm makes its lock with its first bar, and whoever else does so meanwhile breaks it.
    with tqdm(total=total_kimg, desc="train", bar_format=bar_format, dynamic_ncols=True) as bar:
        begun = len(read_json_lines(run / STARTS))  # now: the thread may get its turn when another start is noted
        thread = threading.Thread(target=_follow, args=(run, bar, begun, on_tick, stop), name="progress")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
    for call in (last, *on_tick):
        call()


def _follow(run: Path, bar: Any, begun: int, on_tick: tuple[Callable[[], None], ...], stop: threading.Event) -> None:
    shown, starts, total_kimg, starts_shown = 0, run / STARTS, bar.total, begun
    last_look, seen = False, None
    while not last_look:
        last_look = stop.wait(POLL_S)
        try:
            if (marks := [fingerprint(path) for path in (starts, run / METRICS) if path.exists()]) == seen:
                continue
            new, ticks = read_json_lines(starts)[starts_shown:], read_json_lines(run / METRICS)
        except (OSError, InputError):  # of a storage that is away: the next look
            continue
        seen = marks
        for start in new:
            starts_shown += 1
            shown = shown or start["nimg"]  # what earlier starts showed has been said
            tqdm.write("\n".join([*start["refused"], f"workers: {start['workers']}, from image {start['nimg']} on"]))
        if starts_shown == begun:
            continue
        records = [record for record in ticks if record["nimg"] > shown]
        for record in records:
            tqdm.write(describe(record, total_kimg))
        if records:
            shown = records[-1]["nimg"]
            bar.n = min(records[-1]["kimg"], total_kimg)
            bar.set_postfix_str(_pace(records[-1], total_kimg))
            with tqdm.external_write_mode():  # what they print is no part of the bar's line
                for call in on_tick:
                    try:
                        call()
                    except Exception as error:  # a full disk, a damaged file: the next tick may find it mended
                        print(f"after a tick: {' '.join(str(error).split())[:200]}")


def _pace(record: dict[str, Any], total_kimg: float) -> str:
    """Time trained, over all starts, and left at the last tick's pace."""
    left = max(0.0, total_kimg * 1000 - record["nimg"]) / record["images_per_s"]
    spent, rest = (tqdm.format_interval(seconds) for seconds in (record["seconds"], left))
    return f"{spent}<{rest}, {record['images_per_s']:.0f} images/s"


def describe(record: dict[str, Any], total_kimg: float) -> str:
    """One line for a person."""
    fade = f" fade {record['alpha']:.2f}" if record["alpha"] < 1 else ""
    penalty = f" penalty {record['penalty']:.3f}" if "penalty" in record else ""  # a lazy one may not have been due
    augment = f"  p {record['augment_p']:.2f}" if record["augment_p"] else ""
    return (
        f"kimg {record['kimg']:.1f}/{total_kimg:g}  {record['resolution']}²{fade}  "
        f"loss G {record['loss_g']:.2f} D {record['loss_d']:.2f}{penalty}  "
        f"signs {record['sign_real']:+.2f} {record['sign_fake']:+.2f}{augment}  "
        f"{record['images_per_s']:.0f} images/s  {record['memory_gib']:.2f} GiB"
    )

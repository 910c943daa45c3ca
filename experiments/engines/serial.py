"""Every run in this process, in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.engines.pool import POLL_SECONDS
from experiments.engines.runs import Options, Result, Train, ignore, train_and_store
from experiments.study import Run


@contextlib.contextmanager
def serial(folder: Path, options: Options) -> Iterator[Train]:
    """Train in this process, where a run can't be stopped when it exceeds its timeout."""

    def train_all(
        runs: Sequence[Run],
        keep: Collection[str] = (),
        on_pass: Callable[[Run, int], None] = ignore,
    ) -> Iterator[Result]:
        while runs:
            busy = []
            for run in runs:
                told = partial(on_pass, run)
                result = train_and_store(run, folder, run.id in keep, told, advice="")
                if result is None:
                    busy.append(run)
                else:
                    yield result
            if len(busy) == len(runs):
                time.sleep(POLL_SECONDS)
            runs = busy

    yield train_all

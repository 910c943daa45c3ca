"""A live bar on a terminal: tqdm's, with a monotonic clock."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """tqdm reads the wall clock: set back by an hour, its bar would stand still for an hour."""

    @property
    def _time(self) -> Any:
        return time.monotonic

    @_time.setter
    def _time(self, clock: Any) -> None:
        pass

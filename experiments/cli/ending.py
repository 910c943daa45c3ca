"""How a command ends when it is interrupted: one line, exit code 130, and no traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from experiments.engines.signals import ENDING

INTERRUPTED = "interrupted; finished runs are kept; give the same command to continue"


def end_now(number: int, frame: FrameType | None) -> None:
    """End this process, wherever it is: there is nothing to clean up yet, or any more."""
    try:
        os.write(2, f"{INTERRUPTED}\n".encode())
    finally:
        os._exit(130)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt once; the next signal ends the process."""
    handle_signals(_exit)
    raise KeyboardInterrupt


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(130)


def handle_signals(handler: object) -> None:
    """Handle with it every signal that ends a command, except those the caller ignores."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def open_streams() -> bool:
    """Open a sink for each output that the caller has closed, or another file would get its number.

    Characters that a terminal's encoding lacks are replaced. Returns whether there is an output.
    """
    there = sys.stdout is not None
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            sink = os.open(os.devnull, os.O_WRONLY)
            if sink != number:
                os.dup2(sink, number)
                os.close(sink)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="replace")
    return there

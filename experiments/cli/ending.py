"""How a command ends when it is interrupted: one line, exit code 130, and no traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = "interrupted; finished runs are kept, the same command goes on"
# Schedulers send SIGTERM, closed terminals SIGHUP; SIGQUIT is Ctrl-\\.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]


def end_now(number: int, frame: FrameType | None) -> None:
    """End this process, wherever it is; there is nothing yet, or no longer, to be put in order."""
    try:
        os.write(2, f"{INTERRUPTED}\n".encode())
    finally:
        os._exit(130)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt once; the next signal ends the process."""
    hear(_exit)
    raise KeyboardInterrupt


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(130)


def hear(handler: object) -> None:
    """Take this handler for all that ends a command, but for what the caller has switched off."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def open_streams() -> bool:
    """Put a sink where the caller has closed an output, or its number would go to another file.

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

"""The signals that end a command."""

from __future__ import annotations

import signal

# Schedulers send SIGTERM, closed terminals SIGHUP; SIGQUIT is Ctrl-\.
ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
)

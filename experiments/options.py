"""One clear line for a name that does not exist."""

from __future__ import annotations

from collections.abc import Collection

SHOWN = 200  # characters of a name: a path is shown whole


def known(kind: str, name: str, allowed: Collection[str]) -> str:
    """Return `name` if it is allowed; otherwise raise a ValueError with the nearest ones."""
    if name in allowed:
        return name
    from difflib import get_close_matches

    allowed = list(allowed)
    lower = {option.lower(): option for option in allowed}
    text = str(name).lower()
    longer = [option for option in lower if text and option.startswith(text)]
    near = [lower[match] for match in longer or get_close_matches(text, lower, n=2, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = repr(name) if len(str(name)) <= SHOWN else f"{str(name)[:SHOWN]!r}..."
    raise ValueError(f"unknown {kind} {shown}: {hint}allowed: {', '.join(allowed)}")

"""Where things are: the checkout, and the folder for what commands make."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build_folder() -> Path:
    """Where everything that commands make goes: `ADAM_TF_BUILD`, or `build` in the checkout."""
    given = os.environ.get("ADAM_TF_BUILD")
    try:
        return Path(given or ROOT / "build").expanduser()
    except RuntimeError:
        raise ValueError(
            f"ADAM_TF_BUILD={given} is not valid: there is no such home folder; use a whole path"
        ) from None

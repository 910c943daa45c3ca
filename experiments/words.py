"""Settings and numbers of things in words, for tables, figures and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DECAYS = {
    "constant": "constant α",
    "sqrt_epoch": "α/√t, t in passes",
    "sqrt_step": "α/√t, t in steps",
}
SYMBOLS = {
    "learning_rate": "α",
    "beta_1": "β₁",
    "beta_2": "β₂",
    "epsilon": "ε",
    "beta_1_decay": "λ",
    "rho": "ρ",
    "warmup_steps": "warm-up steps",
}


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: "1 run", "3 runs".

    Args:
        number: how many.
        one: the word for one of them.
        many: the plural; by default with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings as the paper writes them: "α = 0.001, α/√t, t in passes, β₁ = 0.9"."""
    return ", ".join(
        DECAYS.get(str(value), str(value))
        if name == "decay"
        else f"{SYMBOLS.get(name, name.replace('_', ' '))} = {value}"
        for name, value in settings.items()
    )

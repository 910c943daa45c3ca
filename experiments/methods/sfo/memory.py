"""How much memory an optimizer needs, and how much is available."""

from __future__ import annotations

from experiments.methods.sfo.subspace import subspace_size


def memory_needed(parameters: int, subfunctions: int, max_history_terms: int = 10) -> int:
    """How many bytes an optimizer takes at most, apart from what `f_df` takes.

    Args:
        parameters: the length of theta.
        subfunctions: how many there are.
        max_history_terms: see `SFO`.
    """
    size = subspace_size(parameters, subfunctions)
    basis = size if size < parameters else 0
    vectors = 6  # theta, its copy, two points, and what is left of a gradient
    # The position, gradient and history of each subfunction, its axes and these once more, scaled.
    model = size * subfunctions * (4 + 6 * max_history_terms)
    return 8 * (parameters * (basis + vectors) + model + 8 * size**2)


def available_memory() -> int | None:
    """How many bytes can be allocated, or None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None

"""The explorer: Adam and seven other methods in the browser, as one page that opens offline.

Its arithmetic, surfaces and controls are the plain JavaScript modules in this folder. A page that
is opened from a folder cannot load modules, so they are put into it one after another.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent
DIGITS = (3, 8)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)


def script() -> str:
    """The modules as one script: each once, after those that it imports.

    Raises:
        ValueError: two modules define the same name, or modules import each other in a circle.
    """
    ordered: dict[str, str] = {}
    _visit("main.mjs", ordered, ())
    names: dict[str, str] = {}
    for module, source in ordered.items():
        for name in re.findall(r"^(?:export )?(?:const|let|function|class) (\w+)", source, re.M):
            if name in names:
                raise ValueError(f"{module} and {names[name]} both define {name}; rename one")
            names[name] = module
    parts = (
        re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.M) for text in ordered.values()
    )
    body = "\n".join(part.strip() + "\n" for part in parts)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _visit(module: str, ordered: dict[str, str], above: tuple[str, ...]) -> None:
    if module in above:
        raise ValueError(f"{module} imports itself through {', '.join(above)}")
    if module in ordered:
        return
    source = (FOLDER / module).read_text(encoding="utf-8")
    for needed in _IMPORT.findall(source):
        _visit(needed, ordered, (*above, module))
    ordered[module] = source


def digits() -> str:
    """The module `digits.mjs`: two kinds of scikit-learn's handwritten digits, two numbers each.

    The numbers are the first two principal components of the 64 pixels, in units of the first
    one's standard deviation. `lowest` is where the mean logistic cost with an L2 term of 0.001 is
    least, found by Newton's method.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, DIGITS)
    pixels, is_second = pixels[chosen], labels[chosen] == DIGITS[1]
    centred = pixels - pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    parts = centred @ axes.T
    parts = np.round(parts / parts[:, 0].std(), 3)
    weights = np.zeros(2)
    for _ in range(50):
        share = 1 / (1 + np.exp(-parts @ weights))
        slope = parts.T @ (share - is_second) / len(parts) + 1e-3 * weights
        bend = (parts.T * (share * (1 - share))) @ parts / len(parts) + 1e-3 * np.eye(2)
        weights = weights - np.linalg.solve(bend, slope)
    examples = [[*map(float, row), int(label)] for row, label in zip(parts, is_second, strict=True)]
    lowest = [round(float(weight), 6) for weight in weights]
    x, y = lowest
    view = [round(v, 1) for v in (min(-3, x - 3), max(3, x + 3), min(-2.5, y - 2), max(2.5, y + 2))]
    facts = {"digits": DIGITS, "lowest": lowest, "view": view, "examples": examples}
    body = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in facts.items())
    return (
        "// Real handwritten digits; written by __init__.py, don't edit.\n\n"
        f"export const DIGITS = {{\n{body}\n}};\n"
    )

"""A mistake in a declaration that stops Python itself, as one line that says where it is.

Only the standard library is imported: nothing else may be importable.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = Path(__file__).parent


def described(error: Exception) -> str:
    """What is wrong and where, in one line.

    Args:
        error: what importing the declarations has raised.
    """
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(error)  # a check of ours, which says it all
    if isinstance(error, SyntaxError):
        what, file, line = error.msg, error.filename, error.lineno
    else:
        what = " ".join(traceback.format_exception_only(error)[-1].split())
        places = traceback.extract_tb(error.__traceback__)
        ours = [place for place in places if CODE in Path(place.filename).parents]
        file, line = (ours[-1].filename, ours[-1].lineno) if ours else (None, None)
    if file is None:
        return what
    path = Path(file)
    where = path.relative_to(ROOT) if ROOT in path.parents else path
    return f"{where}, line {line}: {_with_advice(what)}"


def _with_advice(what: str) -> str:
    """The words of Python, and what is allowed where it does not say so."""
    if found := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", what):
        allowed = _fields(found[1])
        near = get_close_matches(found[2], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{found[1]} has no {found[2]!r}: {hint}allowed: {', '.join(allowed)}"
    if found := re.search(r"(\w+)\.__init__\(\) missing .* arguments?: (.*)", what):
        return f"{found[1]} needs {found[2]}; give {'it' if ' and ' not in found[2] else 'them'}"
    if found := re.search(r"cannot import name '(\w+)' from .*'(experiments[\w.]*)'", what):
        return f"there is no {found[1]!r} in {found[2]}; correct the name, or write it"
    if "No module named" in what and "'experiments" not in what:
        return f"{what}; `make env` installs what is needed"
    return f"{what}; correct it there"


def _fields(name: str) -> list[str]:
    """The fields of the declared class of that name."""
    for module in list(sys.modules.values()):
        kind = getattr(module, name, None) if module.__name__.startswith("experiments") else None
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind)]
    return []

"""What trained a run: Keras' backend, the kinds of processor and the commits of the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

UNKNOWN = "unknown"  # the commit of code outside git


class Origin(NamedTuple):
    """What trained a run, or a part of it.

    Attributes:
        backend: Keras' backend; "" where that was not noted yet.
        kinds: the kinds of processor.
        commits: the commits of the code, each with "+" if the code differed from it.
    """

    backend: str = ""
    kinds: tuple[str, ...] = ()
    commits: tuple[str, ...] = (UNKNOWN,)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Origin:
        """The one that `_asdict` gave; older checkpoints lack some of it."""
        kinds, commits = facts.get("kinds", ()), facts.get("commits", (UNKNOWN,))
        return cls(str(facts.get("backend", "")), tuple(kinds), tuple(commits))

    def after(self, earlier: Origin) -> Origin:
        """The origin of a run of which `earlier` trained the beginning, and this the rest."""
        kinds, commits = earlier.kinds + self.kinds, earlier.commits + self.commits
        return Origin(self.backend, tuple(dict.fromkeys(kinds)), tuple(dict.fromkeys(commits)))

    def manifest(self) -> dict[str, str]:
        """What a record says of it: several kinds or commits if the run was interrupted."""
        return {"kind": "; ".join(self.kinds), "commit": "; ".join(self.commits)}


def held_by_commits(commit: object) -> bool:
    """Whether commits hold all code that a record's `commit` names, so that others can repeat it.

    Code that differs from its commit ("+") and code outside git ("unknown") is held by none.
    """
    return all(re.fullmatch("[0-9a-f]{12}", part) for part in str(commit).split("; "))

"""A stamp of what the published report is made from; while none of it changes, it is not rebuilt.

This is a module of its own because those that draw and build take seconds to import.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import pages
from experiments.paths import ROOT, build_folder
from experiments.records.store import write_atomically
from experiments.study import Study
from experiments.verify import kept
from experiments.verify.checks import PUBLISHED

NOTEBOOKS = ROOT / "notebooks"


class Stamp:
    """A digest of what the report of these studies is made from, as it is now.

    This covers the code, the pages, the published records, the checks, and which data are here.
    """

    def __init__(self, studies: Sequence[Study]) -> None:
        self.path = build_folder() / "published" / "report.made-from"
        self.report = build_folder() / "published" / "report"
        checks = [kept.folder() / "checks", PUBLISHED, kept.imported()]
        files = [
            *(path for place in (*checks, NOTEBOOKS, pages.RESULTS) for path in place.glob("*.*")),
            *(path for path in (ROOT / "experiments").rglob("*.*") if path.suffix != ".pyc"),
            ROOT / "requirements.lock",
        ]
        digest = hashlib.sha256()
        for path in sorted(path for path in files if path.is_file()):
            digest.update(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        named = [(study.name, kept.data_is_there(study)) for study in studies]
        digest.update(f"{named} {sys.version}".encode())
        self.digest = digest.hexdigest()

    @property
    def index(self) -> Path:
        """The overview page."""
        return self.report / "index.html"

    def holds(self) -> bool:
        """Whether the report exists, is complete, and was made from exactly this."""
        try:
            stamp = json.loads(self.path.read_bytes())
            return bool(stamp == {"digest": self.digest, "pages": self._pages()})
        except (OSError, ValueError):
            return False

    def put(self) -> None:
        """Record that the report has been made."""
        stamp = {"digest": self.digest, "pages": self._pages()}
        write_atomically(self.path, json.dumps(stamp, indent=1).encode())

    def _pages(self) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.report.glob("*.html"))
        }

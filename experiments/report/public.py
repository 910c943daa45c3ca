"""Notebook 00 elsewhere: badges that open it, once the repository has a public address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from nbformat import NotebookNode

EXPLAINED = "00_adam_explained.ipynb"
SHIELD = "https://img.shields.io/badge"
COLAB = """\
import sys

if "google.colab" in sys.modules:  # which has this notebook without the rest
    !git clone --quiet --depth 1 {address} adam
    %cd -q adam
    %pip install --quiet -e ".[study]\""""


def badges(citation: str) -> str:
    """Links that open notebook 00, which needs no data, from the repository's public address.

    Args:
        citation: the text of `CITATION.cff`, whose `repository-code` is that address.

    Returns:
        Markdown; empty without an address, or for a host that these services do not support.
    """
    if not (name := _repository(citation)):
        return ""
    page = f"notebooks/{EXPLAINED}"
    binder = f"https://mybinder.org/v2/gh/{name}/main?labpath={quote(page, safe='')}"
    colab = f"https://colab.research.google.com/github/{name}/blob/main/{page}"
    viewer = f"https://nbviewer.org/github/{name}/blob/main/{page}"
    return (
        f"[![run notebook 00 on Colab]({SHIELD}/Colab-notebook_00-17599e)]({colab})\n"
        f"[![run notebook 00 on Binder](https://mybinder.org/badge_logo.svg)]({binder})\n"
        f"[![notebook 00 on nbviewer]({SHIELD}/nbviewer-notebook_00-17599e)]({viewer})"
    )


def for_colab(notebook: NotebookNode, citation: str) -> None:
    """Give notebook 00 the cell that gets a checkout on Colab, which opens only the notebook.

    Without a public address there is no such cell.

    Args:
        notebook: changed in place.
        citation: as for `badges`.
    """
    from nbformat.v4 import new_code_cell

    notebook.cells = [cell for cell in notebook.cells if cell.id != "colab"]
    if name := _repository(citation):
        source = COLAB.format(address=f"https://github.com/{name}")
        notebook.cells.insert(1, new_code_cell(source, id="colab"))


def _repository(citation: str) -> str:
    """OWNER/NAME of the public repository; empty if there is none."""
    import yaml

    address = str(yaml.safe_load(citation).get("repository-code", ""))
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    return found[1] if found else ""

"""The publishers' files, where `ADAM_TF_DATA` holds them, and files put in their places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.data import catalogue, files

REAL = os.environ.get("ADAM_TF_DATA")


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where a data set is not there."""
    reason = f"ADAM_TF_DATA holds no {catalogue.title(name)}"
    return pytest.mark.skipif(not (REAL and files.available(name)), reason=reason)


def put(folder: Path, path: str, content: bytes) -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    return folder / path


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text

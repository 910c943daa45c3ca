"""Fixtures of the data sets' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from originals import REAL

from experiments.data import cifar10, imdb, mnist, shakespeare


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def uncached() -> Iterator[None]:
    """Nothing loaded before the test, and nothing of it after."""
    modules = (cifar10, imdb, mnist, shakespeare)
    for module in modules:
        module._load.cache_clear()
    yield
    for module in modules:
        module._load.cache_clear()


@pytest.fixture
def real(monkeypatch, folder) -> None:
    monkeypatch.setenv("ADAM_TF_DATA", REAL or "")

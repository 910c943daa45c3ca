"""Sealed JSON objects: damage is noticed, and what is whole stays as it is."""

from __future__ import annotations

import hashlib
import json
import math

import pytest

from experiments.paths import ROOT
from experiments.records.sealed import seal, unseal

BODY = {"b": [0.1, 1e-300, -3], "a": {"text": "α", "nothing": None}}


def test_what_is_sealed_comes_back():
    assert unseal(seal(BODY)) == (BODY, True)


def test_the_bytes_are_those_of_every_earlier_version():
    checksum = hashlib.sha256(json.dumps(BODY, sort_keys=True).encode()).hexdigest()
    assert seal(BODY) == json.dumps({**BODY, "checksum": checksum}, indent=1).encode()


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "checks").glob("*.json")))
def test_published_checks_would_be_written_again_byte_by_byte(path):
    body, fits = unseal(path.read_bytes(), finite=False)
    assert fits
    assert seal(body, finite=False) == path.read_bytes()


def test_a_changed_value_does_not_fit():
    body, fits = unseal(seal(BODY).replace(b"-3", b"-4"))
    assert body["b"][2] == -4
    assert not fits


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b'"text"', b"{}", b"\xff", seal(BODY)[:-1], b"[" * 100_000],
)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match="not a whole object with a checksum"):
        unseal(content)


def test_numbers_must_be_finite_unless_others_are_allowed():
    body = {"largest": math.inf}
    with pytest.raises(ValueError, match="JSON"):
        seal(body)
    content = seal(body, finite=False)
    assert unseal(content, finite=False) == (body, True)
    with pytest.raises(ValueError, match="not a whole object"):
        unseal(content)

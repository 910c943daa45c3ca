"""JSON objects that hold the SHA-256 of their own content, so that damage to a file is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(body: Mapping[str, Any], *, finite: bool = True) -> str:
    """The SHA-256 of an object as canonical JSON.

    Args:
        body: the object.
        finite: whether to refuse infinite numbers and NaN, which are not JSON.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(body, sort_keys=True, allow_nan=not finite)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(body: Mapping[str, Any], *, finite: bool = True) -> bytes:
    """An object as JSON with its checksum. Floats are written so that they read back bit by bit.

    Args:
        body: the object.
        finite: see `digest_of`.

    Raises:
        ValueError: a number is not finite.
    """
    whole = {**body, "checksum": digest_of(body, finite=finite)}
    return json.dumps(whole, allow_nan=not finite, indent=1).encode()


def unseal(content: bytes, *, finite: bool = True) -> tuple[dict[str, Any], bool]:
    """The object in `content` without its checksum, and whether that fits.

    Args:
        content: what `seal` gave, as far as one knows.
        finite: see `digest_of`.

    Raises:
        ValueError: it is not such an object.
    """
    try:
        body = json.loads(content)
        checksum = body.pop("checksum")
        return dict(body), digest_of(body, finite=finite) == checksum
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is not a whole object with a checksum") from error

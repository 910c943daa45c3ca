"""Images of half the size, for models that must be cheap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half the height and half the width: the rounded means of 2x2 pixels.

    Args:
        images: (n, height, width, ...), height and width even.
    """
    wide = images.astype(np.uint16)
    sums = wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)

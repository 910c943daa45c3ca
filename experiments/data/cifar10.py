"""CIFAR-10: 50,000 + 10,000 colour images of ten classes (Section 6.3), whitened."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import os
import pickle
import pickletools
import reprlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import Arrays, DataError
from experiments.data.catalogue import DATASETS, fingerprint, stand_in
from experiments.data.files import read, root
from experiments.options import known

KINDS = ("cifar10", stand_in("cifar10"))
WHITENINGS = ("zca", "channel", "none")
_SHAPE = (32, 32, 3)
_BATCH = 10_000  # images in each file
_TRAIN, _TEST = 5 * _BATCH, _BATCH
_STEP = 2_500  # images that are whitened at a time
_VERSION = 1  # of the kept results; raise it whenever `zca` computes different values


def load(kind: str = "cifar10") -> Arrays:
    """The images (n, 32, 32, 3) and labels (n,) as the publisher splits them; read-only, kept.

    Args:
        kind: "cifar10", or "cifar10-stand-in" for drawn shapes.

    Raises:
        DataError: a file is missing or damaged.
    """
    return _load(known("data set", kind, KINDS))


@functools.lru_cache(maxsize=len(KINDS))
def labels(kind: str = "cifar10") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The labels of the training and the test images, as in `load`; the images are released.

    Args:
        kind: as in `load`.

    Raises:
        DataError: as `load` does.
    """
    arrays = load(kind)
    _load.cache_clear()
    return arrays.y_train, arrays.y_test


@functools.lru_cache(maxsize=len(KINDS))
def _load(kind: str) -> Arrays:
    if kind != "cifar10":
        from experiments.data import standins

        return standins.shapes()
    x = np.empty((_TRAIN + _TEST, *_SHAPE), np.uint8)
    y = np.empty(_TRAIN + _TEST, np.uint8)
    for i, file in enumerate(DATASETS["cifar10"].files):
        images, labels = parse_batch(read(file), file.path)
        if len(images) != _BATCH:
            raise DataError(f"{file.path} holds {len(images)} images, not {_BATCH}")
        x[i * _BATCH : (i + 1) * _BATCH], y[i * _BATCH : (i + 1) * _BATCH] = images, labels
    x.flags.writeable = y.flags.writeable = False
    return Arrays(x[:_TRAIN], y[:_TRAIN], x[_TRAIN:], y[_TRAIN:])


# The publisher's pickles use nothing twice; one that does may be short but describe something huge.
_AGAIN = {"DUP", "GET", "BINGET", "LONG_BINGET"}


class _Recorded:
    """Stands for a NumPy object that a pickle describes: keeps its state, creates nothing."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads arrays and plain objects; a pickle cannot make it import or call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return _Recorded
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def parse_batch(data: bytes, source: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images (n, 32, 32, 3) and labels (n,) in `data`, a pickled batch; runs no code from it.

    Raises:
        DataError: `data` is not such a file; the message names `source`.
    """

    def refuse(problem: object) -> DataError:
        return DataError(f"{source} is not a batch of CIFAR-10: {problem}")

    try:
        _check_size(data)
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise any
        raise refuse(" ".join(str(error).split())[:200] or type(error).__name__) from error
    try:
        numbers = batch[b"labels"]
        if type(numbers) is not list or any(type(label) is not int for label in numbers):
            raise refuse("its labels are not a list of numbers")
        labels = np.array(numbers, np.int64)
        _, shape, dtype, by_columns, pixels = batch[b"data"].state
        images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise refuse(f"it has no images or no labels ({reprlib.repr(error)})") from error
    if (
        type(shape) is not tuple
        or shape != (len(images), 3072)
        or by_columns
        or not isinstance(dtype, _Recorded)
    ):
        raise refuse(f"its array has the shape {reprlib.repr(shape)}, not ({len(images)}, 3072)")
    if len(labels) != len(images):
        raise refuse(f"it has {len(images)} images, but {len(labels)} labels")
    if len(labels) and not (labels.min() >= 0 and labels.max() <= 9):
        raise refuse("it has a label that is not 0 to 9")
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels.astype(np.uint8)


def _check_size(data: bytes) -> None:
    """Raise an UnpicklingError before anything much larger than the pickle is created."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data), start=1):
        if opcode.name in _AGAIN:
            raise pickle.UnpicklingError("it uses something twice")
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"it numbers something {argument}")


def whitened(
    kind: str = "cifar10", method: str = "zca", floor: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The training and test images (n, 32, 32, 3), whitened by the training images; read-only.

    With the pixels x in [0, 1], as vectors of 3,072 features:

    - "zca": (x - m) W with W = U diag(1 / sqrt(l + floor)) U^T, where m is the mean of the training
      images, and l and U are the eigenvalues and eigenvectors of their covariance (divided by n,
      not n - 1). The training images then have the covariance U diag(l / (l + floor)) U^T.
    - "channel": (x - m) / s with the mean and the standard deviation of each of the three channels
      over all training images and pixels.
    - "none": x.

    "channel" and "none" give the same bytes everywhere. For "zca", mean and covariance are exact
    (whole numbers, rounded once), but the eigenvectors and products are rounded by the machine's
    LAPACK and BLAS, so two machines may differ in the last digits of float32. If the data folder is
    writable, the first result is kept there (740 MB) and used from then on.

    Args:
        kind: as in `load`.
        method: one of `WHITENINGS`.
        floor: what is added to the eigenvalues, a positive number; only "zca" uses it.

    Raises:
        ValueError: an unknown kind or method, or a floor that is not positive.
        DataError: a file of the data set is missing or damaged.
    """
    known("data set", kind, KINDS)
    known("whitening", method, WHITENINGS)
    if method == "zca" and not 0 < floor < math.inf:
        raise ValueError(f"the floor of the eigenvalues is {floor!r}, not a positive number")
    return _whitened(kind, method, float(floor) if method == "zca" else 0.0)


@functools.lru_cache(maxsize=1)
def _whitened(
    kind: str, method: str, floor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    def make() -> NDArray[np.float32]:
        arrays = load(kind)
        _load.cache_clear()  # whoever wants these images does not want the originals
        return zca(arrays.x_train, arrays.x_test, floor)

    if method == "zca":
        key = f"{fingerprint(kind)} zca {floor!r} version {_VERSION}"
        x = _kept(f"{kind}-zca", key, (_TRAIN + _TEST, *_SHAPE), make)
    else:
        arrays = load(kind)
        x = scale(arrays.x_train, arrays.x_test, method)
    x.flags.writeable = False
    return x[:_TRAIN], x[_TRAIN:]


def scale(
    x_train: NDArray[np.uint8], x_test: NDArray[np.uint8], method: str
) -> NDArray[np.float32]:
    """The training images followed by the test images, scaled.

    Args:
        x_train: the training images, (n, 32, 32, 3).
        x_test: the test images, (m, 32, 32, 3).
        method: "channel" or "none" of `whitened`.

    Returns:
        All images, (n + m, 32, 32, 3).
    """
    table = np.tile(np.arange(256) / 255, (3, 1))  # the new values of each channel
    if method == "channel":
        for channel in range(3):
            many = np.bincount(x_train[..., channel].ravel(), minlength=256)
            # Whole numbers: the mean and the variance times n are exact before they are divided.
            n, first, second = (int((many * np.arange(256) ** k).sum()) for k in range(3))
            deviation = math.sqrt(second * n - first**2) / n / 255
            table[channel] = (table[channel] - first / n / 255) / (deviation or 1.0)
    table = table.astype(np.float32)
    x = np.empty((len(x_train) + len(x_test), *_SHAPE), np.float32)
    for channel in range(3):
        x[: len(x_train), ..., channel] = table[channel][x_train[..., channel]]
        x[len(x_train) :, ..., channel] = table[channel][x_test[..., channel]]
    return x


def zca(x_train: NDArray[np.uint8], x_test: NDArray[np.uint8], floor: float) -> NDArray[np.float32]:
    """The training images followed by the test images, whitened as by "zca" of `whitened`.

    Args:
        x_train: the training images, (n, 32, 32, 3).
        x_test: the test images, (m, 32, 32, 3).
        floor: what is added to the eigenvalues.

    Returns:
        All images, (n + m, 32, 32, 3).
    """
    n, features = len(x_train), math.prod(_SHAPE)
    flat = x_train.reshape(n, features)
    # Whole numbers below 2**53: exact in float64, in whatever order they are summed.
    products = np.zeros((features, features))
    for start in range(0, n, _STEP):
        part = flat[start : start + _STEP].astype(np.float64)
        products += part.T @ part
    sums = flat.sum(axis=0, dtype=np.int64).astype(np.float64)
    covariance = (products * n - np.outer(sums, sums)) / (255.0 * n) ** 2
    values, vectors = np.linalg.eigh(covariance)
    # A covariance has no negative eigenvalue, except by rounding.
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T
    matrix = (matrix / 255).astype(np.float32)
    mean = (sums / n).astype(np.float32)  # of the bytes, so that they keep their precision
    x = np.empty((n + len(x_test), features), np.float32)
    for images, place in ((flat, x[:n]), (x_test.reshape(-1, features), x[n:])):
        for start in range(0, len(images), _STEP):
            rows = slice(start, start + _STEP)
            np.matmul(images[rows] - mean, matrix, out=place[rows])
    return x.reshape(-1, *_SHAPE)


def _kept(
    name: str, key: str, shape: tuple[int, ...], make: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """What `make` returns, from the data folder if an earlier call left it there undamaged.

    The file holds the array's bytes and the SHA-256 of the key and these bytes. It is mapped into
    memory, so that processes share it. Given file locks, only one process at a time makes it.
    """
    folder = root()
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.f32"
    if (found := _mapped(path, key, shape)) is not None:
        return found
    with _alone(folder):
        if (found := _mapped(path, key, shape)) is not None:
            return found
        array = make()
        try:
            with tempfile.TemporaryDirectory(prefix=".whitening-", dir=folder) as place:
                part = Path(place) / "part"
                with part.open("wb") as file:
                    file.write(array.reshape(-1).data)
                    file.write(_digest(key, array))
                part.chmod(folder.stat().st_mode & 0o666)
                os.replace(part, path)
        except OSError:
            return array  # a read-only folder or a full disk: the next process makes it again
        del array  # or it would be in memory twice
    found = _mapped(path, key, shape)
    return make() if found is None else found


def _mapped(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The array in the file, or `None` if it is not there or damaged."""
    try:
        if path.stat().st_size != 4 * math.prod(shape) + hashlib.sha256().digest_size:
            return None
        array = np.asarray(np.memmap(path, np.float32, "r", shape=shape))
        with path.open("rb") as file:
            file.seek(array.nbytes)
            return array if file.read() == _digest(key, array) else None
    except (OSError, ValueError):
        return None


def _digest(key: str, array: NDArray[np.float32]) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(array.reshape(-1).data)
    return digest.digest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and wait until no other process is in here; if that fails, just continue."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            import fcntl

            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

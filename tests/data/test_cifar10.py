"""CIFAR-10: its pickles, the whitening and where it is kept, the stand-in."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from originals import REAL, needs, one_line

from experiments.data import catalogue, cifar10, files
from experiments.data.arrays import Arrays, DataError
from experiments.data.catalogue import DATASETS

real_cifar10 = needs("cifar10")


@pytest.fixture(autouse=True)
def _nothing_whitened():
    for kept in (cifar10._whitened, cifar10.labels):
        kept.cache_clear()
    yield
    for kept in (cifar10._whitened, cifar10.labels):
        kept.cache_clear()


# --- Pickled batches ---------------------------------------------------------------------------


def batch(
    pixels: bytes,
    labels: list[int],
    shape: tuple[int, int] | None = None,
    by_columns: bool = False,
    names: tuple[bytes, bytes] = (b"labels", b"data"),
) -> bytes:
    """A batch as Python 2 and its NumPy pickled it."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    rows, columns = shape or (len(labels), 3072)
    return b"".join(
        [
            b"\x80\x02}(" + text(b"batch_label") + text(b"training batch 1 of 5"),
            text(names[0]) + b"](" + b"".join(b"J" + struct.pack("<i", n) for n in labels) + b"e",
            text(names[1]) + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85U\x01b\x87R(K\x01M" + struct.pack("<H", rows),
            b"M" + struct.pack("<H", columns) + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x88" if by_columns else b"\x89",
            b"T" + struct.pack("<i", len(pixels)) + pixels + b"tbu.",
        ]
    )


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
GOOD = batch(PIXELS.tobytes(), [6, 0, 9])


def test_parse_batch():
    images, labels = cifar10.parse_batch(GOOD, "x")
    assert (images.dtype, labels.dtype) == (np.uint8, np.uint8)
    assert labels.tolist() == [6, 0, 9]
    assert images.shape == (3, 32, 32, 3)
    assert images.flags.c_contiguous
    # The file holds all red values by rows, then all green ones, then all blue ones.
    for image, row, column, colour in [(0, 0, 0, 0), (1, 2, 3, 0), (2, 31, 30, 1), (2, 4, 31, 2)]:
        expected = PIXELS[image, colour * 1024 + row * 32 + column]
        assert images[image, row, column, colour] == expected


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize(
    ("data", "asks_for"),
    [
        (pickle.dumps(Evil(), 2), r"(posix|nt).mkdir"),
        (b"cposix\nsystem\n(S'mkdir made-by-a-pickle'\ntR.", "posix.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__?builtins?__.eval|builtins.eval"),
        (b"cnumpy\nload\n(S'made-by-a-pickle'\ntR.", "numpy.load"),
        (b"cnumpy.core\nmultiarray._reconstruct\n.", "numpy.core.multiarray._reconstruct"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
        (b"cnumpy._core.multiarray\n_reconstruct\n.", r"numpy\._core"),
    ],
)
def test_a_pickle_cannot_run_anything(monkeypatch, tmp_path, data, asks_for):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"x is not a batch of CIFAR-10: it asks for {asks_for}"):
        cifar10.parse_batch(data, "x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_pickle_may_use_makes_nothing():
    """Arrays are read from the recorded state, never by NumPy's own unpickling."""
    harmless = b"cnumpy\nndarray\n(I1000000000\nI1000000000\ntR."
    with pytest.raises(DataError, match="no images or no labels"):
        cifar10.parse_batch(harmless, "x")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (b"\x1f\x8b\x08\x00", "opcode .* unknown"),
        (GOOD[:-100], "expected 9216 bytes in a string4"),
        (GOOD[:20], "expected .* bytes in a string1"),
        (b"Pbad\n.", "persistent"),
        (pickle.dumps([1, 2], 2), "no images or no labels"),
        (batch(PIXELS.tobytes(), [1, 2, 3], names=(b"fine", b"data")), "no images or no labels"),
        (batch(PIXELS.tobytes(), [1, 2, 3], names=(b"labels", b"x")), "no images or no labels"),
        (batch(PIXELS.tobytes()[:-1], [1, 2, 3]), "no images or no labels"),
        (batch(PIXELS.tobytes(), [1, 2], (3, 3072)), "has 3 images, but 2 labels"),
        (batch(PIXELS.tobytes(), [1, 2, 3], (2, 3072)), r"has the shape \(2, 3072\), not \(3"),
        (batch(PIXELS.tobytes(), [1, 2, 3], (9, 1024)), r"has the shape \(9, 1024\), not \(3"),
        (batch(PIXELS.tobytes(), [1, 2, 3], by_columns=True), "has the shape"),
        (batch(PIXELS.tobytes(), [1, 2, 10]), "label that is not 0 to 9"),
        (batch(PIXELS.tobytes(), [1, 2, -1]), "label that is not 0 to 9"),
    ],
)
def test_parse_batch_refuses(data, problem):
    with pytest.raises(DataError, match=problem) as error:
        cifar10.parse_batch(data, "some-file")
    assert one_line(error).startswith("some-file is not a batch of CIFAR-10: ")


# --- The real images ---------------------------------------------------------------------------


def check(arrays):
    """What the real images and the stand-in have in common."""
    assert [a.shape for a in arrays] == [(50000, 32, 32, 3), (50000,), (10000, 32, 32, 3), (10000,)]
    assert all(a.dtype == np.uint8 and not a.flags.writeable for a in arrays)
    assert np.bincount(arrays.y_train).tolist() == [5000] * 10
    assert np.bincount(arrays.y_test).tolist() == [1000] * 10


@real_cifar10
def test_cifar10_is_that_of_its_publisher(real, uncached):
    files.verify("cifar10")
    arrays = cifar10.load()
    check(arrays)
    assert arrays.y_train[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert arrays.y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert arrays.x_train[0, 0, :2].tolist() == [[59, 62, 63], [43, 46, 45]]
    assert cifar10.load("cifar10") is arrays, "loaded twice"


@real_cifar10
def test_channels_of_cifar10(real):
    train, test = cifar10.whitened("cifar10", "channel")
    # By the known statistics of the training images.
    mean, std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    arrays = cifar10.load()
    for images, result in ((arrays.x_train, train), (arrays.x_test, test)):
        np.testing.assert_allclose(result[:100], (images[:100] / 255 - mean) / std, atol=1e-3)


@real_cifar10
def test_zca_of_cifar10(real, monkeypatch):
    """With fewer images than features, so that two thirds of the eigenvalues are 0."""
    images = cifar10.load().x_train[:250, 8:24, 8:24]
    monkeypatch.setattr(cifar10, "_SHAPE", images.shape[1:])
    white = cifar10.zca(images, images[:0], 0.1).reshape(250, -1).astype(np.float64)
    assert np.abs(white.mean(axis=0)).max() < 1e-5
    # U diag(l / (l + 0.1)) U^T times the covariance plus 0.1 is the covariance: on ten vectors.
    x = (images / 255).reshape(250, -1)
    x -= x.mean(axis=0)
    vectors = np.random.default_rng(0).normal(size=(x.shape[1], 10))
    expected = x.T @ (x @ vectors) / 250
    found = white.T @ (white @ (expected + 0.1 * vectors)) / 250
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@real_cifar10
@pytest.mark.parametrize("damage", ["truncated", "flipped", "evil"])
def test_damaged_cifar10_is_refused(uncached, folder, monkeypatch, damage):
    """Before anything is unpickled."""
    monkeypatch.setattr(cifar10, "parse_batch", None)
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    for file in DATASETS["cifar10"].files:
        (folder / file.path).symlink_to(Path(REAL or "") / file.path)
    path = folder / DATASETS["cifar10"].files[0].path
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        del content[1000:]
    elif damage == "flipped":
        content[100_000] ^= 1
    else:
        evil = pickle.dumps(Evil(), 2)
        content[: len(evil)] = evil
    path.write_bytes(content)
    problem = "truncated: 1000 bytes" if damage == "truncated" else "damaged: its SHA-256"
    with pytest.raises(DataError, match=f"data_batch_1 is {problem}") as error:
        cifar10.load()
    assert "data_batch_2" not in one_line(error)


# --- Whitening, on smaller images --------------------------------------------------------------

SHAPE = (4, 4, 3)


def images(count: int, seed: int) -> np.ndarray:
    """Images whose neighbouring pixels depend on each other."""
    random = np.random.default_rng(seed)
    rough = random.integers(0, 1500, (count, *SHAPE))
    return (np.cumsum(rough, axis=1) % 2000 // 8 + 3).clip(0, 255).astype(np.uint8)


@pytest.fixture
def small(monkeypatch):
    """A data set of 200 + 50 small images, and how often these were loaded."""
    arrays = Arrays(images(200, 1), np.zeros(200, np.uint8), images(50, 2), np.zeros(50, np.uint8))
    loaded = []

    def load(kind):
        loaded.append(kind)
        return arrays

    for name, value in {"_SHAPE": SHAPE, "_TRAIN": 200, "_TEST": 50, "load": load}.items():
        monkeypatch.setattr(cifar10, name, value)
    return arrays, loaded


@pytest.mark.parametrize("floor", [1e-6, 0.01, 10.0])
@pytest.mark.parametrize("step", [64, 1000])
def test_zca_against_its_formula(small, monkeypatch, floor, step):
    monkeypatch.setattr(cifar10, "_STEP", step)
    arrays, _ = small
    train, test = (x.reshape(-1, 48) / 255 for x in (arrays.x_train, arrays.x_test))
    mean = train.mean(axis=0)
    values, vectors = np.linalg.eigh((train - mean).T @ (train - mean) / len(train))
    white = vectors @ np.diag(1 / np.sqrt(values + floor)) @ vectors.T
    found = cifar10.whitened("cifar10", "zca", floor)
    for x, result in zip((train, test), found, strict=True):
        assert result.dtype == np.float32
        assert result.shape == (len(x), *SHAPE)
        assert not result.flags.writeable
        expected = (x - mean) @ white
        np.testing.assert_allclose(result.reshape(-1, 48), expected, atol=1e-5 * white.max())
    covariance = np.cov(found[0].reshape(-1, 48).astype(np.float64).T, bias=True)
    expected = vectors @ np.diag(values / (values + floor)) @ vectors.T
    np.testing.assert_allclose(covariance, expected, atol=1e-4)


def test_zca_of_constant_pixels(small):
    """Features that never change stay 0; nothing is divided by 0."""
    arrays, _ = small
    train = arrays.x_train.copy()
    train[:, 1] = 77
    white = cifar10.zca(train, arrays.x_test, 1e-6)
    assert np.isfinite(white).all()
    assert np.abs(white[:200, 1]).max() < 1e-6


@pytest.mark.parametrize("method", cifar10.WHITENINGS)
def test_only_the_training_images_count(small, method, monkeypatch):
    arrays, _ = small
    train, test = cifar10.whitened("cifar10", method, 0.1)
    other = arrays._replace(x_test=arrays.x_test[::-1] // 2)
    monkeypatch.setattr(cifar10, "load", lambda kind: other)
    monkeypatch.setattr(cifar10, "_VERSION", -1)
    cifar10._whitened.cache_clear()
    same, different = cifar10.whitened("cifar10", method, 0.1)
    assert (same == train).all()
    assert (different != test).any()


def test_channel_against_its_formula(small):
    arrays, _ = small
    train = arrays.x_train / 255
    mean, std = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2))
    found = cifar10.whitened("cifar10", "channel")
    for x, result in zip((arrays.x_train, arrays.x_test), found, strict=True):
        assert result.dtype == np.float32
        assert not result.flags.writeable
        np.testing.assert_allclose(result, (x / 255 - mean) / std, atol=1e-6)


def test_channel_of_one_colour(small):
    arrays, _ = small
    train = arrays.x_train.copy()
    train[..., 2] = 255
    result = cifar10.scale(train, arrays.x_test, "channel")
    assert np.isfinite(result).all()
    assert (result[:200, ..., 2] == 0).all()


def test_none_is_exact(small):
    arrays, _ = small
    train, test = cifar10.whitened("cifar10", "none")
    assert (train == (arrays.x_train / 255).astype(np.float32)).all()
    assert (test == (arrays.x_test / 255).astype(np.float32)).all()
    assert not train.flags.writeable


def test_unknown_whitening():
    with pytest.raises(ValueError, match=r"unknown whitening 'zcaa': did you mean zca"):
        cifar10.whitened("cifar10", "zcaa")
    with pytest.raises(ValueError, match="unknown data set 'cifar'"):
        cifar10.whitened("cifar", "zca")


@pytest.mark.parametrize("floor", [0, -0.1, float("nan"), float("inf")])
def test_a_floor_must_be_positive(floor):
    with pytest.raises(ValueError, match="not a positive number"):
        cifar10.whitened("cifar10", "zca", floor)


# --- Where the whitened images are kept --------------------------------------------------------


def again(*arguments) -> bytes:
    """The whitened images, as another process gets them."""
    cifar10._whitened.cache_clear()
    return b"".join(x.tobytes() for x in cifar10.whitened(*arguments))


def kept(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_whitened_images_are_kept(small, folder):
    _, loaded = small
    first = again("cifar10", "zca", 0.1)
    assert kept(folder).name.startswith("cifar10-zca-")
    assert kept(folder).stat().st_size == len(first) + 32
    assert kept(folder).stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
    assert again("cifar10", "zca", 0.1) == first
    assert len(loaded) == 1
    x = cifar10.whitened("cifar10", "zca", 0.1)
    assert cifar10.whitened("cifar10", "zca", 0.1) is x, "read twice"


def test_other_whitened_images_are_not_mistaken(small, folder, monkeypatch):
    _, loaded = small
    results = [again("cifar10", "zca", 0.1), again("cifar10", "zca", 0.2)]
    assert results[0] != results[1]
    again("cifar10-stand-in", "zca", 0.1)
    monkeypatch.setattr(cifar10, "_VERSION", 0)
    again("cifar10", "zca", 0.1)
    monkeypatch.setattr(cifar10, "fingerprint", lambda kind: "other data")
    again("cifar10", "zca", 0.1)
    assert len(loaded) == len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("method", ["channel", "none"])
def test_what_is_quick_is_not_kept(small, folder, method):
    cifar10.whitened("cifar10", method)
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: bytes(len(data)),
    ],
)
def test_damaged_whitened_images_are_made_again(small, folder, damage):
    _, loaded = small
    first = again("cifar10", "zca", 0.1)
    path = kept(folder)
    data = path.read_bytes()
    path.write_bytes(damage(data))
    assert again("cifar10", "zca", 0.1) == first
    assert len(loaded) == 2
    assert kept(folder).read_bytes() == data


def test_a_renamed_file_is_damaged(small, folder):
    """The digest is of the key, too."""
    _, loaded = small
    again("cifar10", "zca", 0.1)
    other = kept(folder)
    content = other.read_bytes()
    result = again("cifar10", "zca", 0.2)
    (path,) = set(folder.iterdir()) - {other}
    path.write_bytes(content)
    assert again("cifar10", "zca", 0.2) == result
    assert len(loaded) == 3


def refuse(error):
    def call(*_, **__):
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (tempfile, "mkdtemp", errno.EROFS),
        (Path, "mkdir", errno.EACCES),
        (os, "replace", errno.ENOSPC),
        (os, "replace", errno.EACCES),
        (Path, "open", errno.EACCES),
    ],
)
def test_where_nothing_can_be_kept(small, folder, monkeypatch, module, name, error):
    expected = cifar10.zca(small[0].x_train, small[0].x_test, 0.1).tobytes()
    monkeypatch.setattr(module, name, refuse(error))
    assert again("cifar10", "zca", 0.1) == expected
    train, _ = cifar10.whitened("cifar10", "zca", 0.1)
    assert not train.flags.writeable
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(small, folder, monkeypatch):
    expected = cifar10.zca(small[0].x_train, small[0].x_test, 0.1).tobytes()
    really = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r": really(Path("/dev/full") if mode == "wb" else path, mode),
    )
    assert again("cifar10", "zca", 0.1) == expected
    assert list(folder.iterdir()) == []


def test_no_locks(small, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    first = again("cifar10", "zca", 0.1)
    assert again("cifar10", "zca", 0.1) == first
    assert len(small[1]) == 1


def test_a_file_in_the_folders_place(small, folder):
    folder.parent.mkdir(exist_ok=True)
    folder.write_bytes(b"mine")
    with pytest.raises(DataError, match="which is not a folder"):
        again("cifar10", "zca", 0.1)
    assert folder.read_bytes() == b"mine"


def test_an_interruption_leaves_nothing(small, folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        again("cifar10", "zca", 0.1)
    assert list(folder.iterdir()) == []


PROCESS = """
import sys, time
import numpy as np
from experiments.data import cifar10
from experiments.data.arrays import Arrays

if sys.argv[1] == "no lock":
    sys.modules["fcntl"] = None
cifar10._SHAPE, cifar10._TRAIN, cifar10._TEST = (4, 4, 3), 2000, 500
x = np.random.default_rng(0).integers(0, 256, (2500, 4, 4, 3), np.uint8)

def load(kind):
    print("loaded")
    time.sleep(0.5)
    return Arrays(x[:2000], x[:2000, 0, 0, 0], x[2000:], x[2000:, 0, 0, 0])

cifar10.load = load
print(hash(b"".join(part.tobytes() for part in cifar10.whitened("cifar10", "zca", 0.1))))
"""


@pytest.mark.parametrize("lock", ["lock", "no lock"])
def test_processes_at_once(folder, lock):
    pytest.importorskip("fcntl")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, lock],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({words[-1] for words in said}) == 1
    if lock == "lock":
        assert sum(words.count("loaded") for words in said) == 1, "made more than once"
    assert kept(folder).stat().st_size == 2500 * 48 * 4 + 32


# --- The stand-in ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes():
    return cifar10.load("cifar10-stand-in")


def test_stand_in_looks_like_cifar10(shapes):
    check(shapes)
    assert cifar10.load("cifar10-stand-in") is shapes
    assert 100 < shapes.x_train[::10].mean() < 150  # CIFAR-10: 121
    assert 50 < shapes.x_train[::10].std() < 90  # CIFAR-10: 64
    assert len(np.unique(shapes.y_train[:100])) == 10, "the classes are not mixed"


def test_stand_in_is_the_same_everywhere(shapes):
    """Other values need another number in `catalogue.STAND_INS`."""
    content = hashlib.sha256(b"".join(array.tobytes() for array in shapes)).hexdigest()
    assert (catalogue.STAND_INS["cifar10-stand-in"], content[:16]) == (
        "shapes-1",
        "a53cdbbfa8f38321",
    )


def test_stand_in_images_differ(shapes):
    rows = {image.tobytes() for x in (shapes.x_train, shapes.x_test) for image in x[:, ::4]}
    assert len(rows) == 60_000


def test_stand_in_can_be_learned_but_not_trivially(shapes):
    """A linear model cannot tell the shapes by their pixels, but better by what is not ground."""
    from sklearn.linear_model import RidgeClassifier

    def score(features):
        x_train, x_test = features(shapes.x_train[:4000]), features(shapes.x_test[:2000])
        model = RidgeClassifier(alpha=1000).fit(x_train, shapes.y_train[:4000])
        return model.score(x_test, shapes.y_test[:2000])

    def pixels(x):
        return x.reshape(len(x), -1).astype(np.float32) / 255

    def figure(x):
        edge = np.concatenate([x[:, :2], x[:, -2:]], axis=1).reshape(len(x), -1, 3)
        ground = np.median(edge, axis=1)[:, None, None]
        return np.abs(x - ground).sum(axis=-1).reshape(len(x), -1).astype(np.float32) / 255

    assert score(pixels) < 0.25
    assert 0.33 < score(figure) < 0.6

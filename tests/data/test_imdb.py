"""The IMDB reviews and their stand-in."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from originals import REAL, needs, one_line, put

from experiments.data import bags, catalogue, files, imdb
from experiments.data.arrays import DataError
from experiments.data.catalogue import DATASETS

real_imdb = needs("imdb")
FEAT = b"9 0:9 1:1 9999:2\n1\n4 2:300 3:1\n10 17:1\n"


# --- .feat files -------------------------------------------------------------------------------


def test_parse_bags():
    parsed = bags.parse_bags(FEAT, "x")
    assert [array.tolist() for array in parsed] == [
        [9, 1, 4, 10],
        [3, 0, 2, 1],
        [0, 1, 9999, 2, 3, 17],
        [9, 1, 2, 300, 1, 1],
    ]
    assert [array.dtype for array in parsed] == [np.uint8, np.int64, np.uint16, np.int64]


def test_parse_bags_of_a_line_at_a_time():
    """Against splitting the text, on random reviews."""
    random = np.random.default_rng(0)
    lines, expected = [], []
    for _ in range(300):
        words = np.sort(random.choice(12000, random.integers(0, 40), replace=False)).tolist()
        pairs = [(word, int(10 ** random.uniform(0, 6))) for word in words]
        rating = int(random.integers(1, 11))
        lines.append(" ".join([str(rating), *(f"{word}:{count}" for word, count in pairs)]))
        expected.append((rating, [pair for pair in pairs if pair[0] < 10000]))
    parsed = bags.parse_bags("\n".join(lines).encode(), "x")
    ends = np.cumsum(parsed.lengths)
    for i, (rating, pairs) in enumerate(expected):
        part = slice(ends[i] - parsed.lengths[i], ends[i])
        assert parsed.ratings[i] == rating
        assert list(zip(parsed.words[part], parsed.counts[part], strict=True)) == pairs


@pytest.mark.parametrize(
    "same",
    [
        FEAT[:-1],
        FEAT.replace(b"9999:2\n", b"9999:2 10000:1 89526:7\n"),
        FEAT.replace(b"\n1\n", b"\n1 10000:1\n"),
    ],
)
def test_rare_words_do_not_count(same):
    assert bags.decode_bags(same, "x").sha256 == bags.decode_bags(FEAT, "x").sha256


@pytest.mark.parametrize(
    "other",
    [
        FEAT.replace(b"9 0", b"8 0"),
        FEAT.replace(b":300", b":301"),
        FEAT.replace(b":300", b":44"),  # the same in eight bits
        FEAT.replace(b" 17:", b" 18:"),
        FEAT.replace(b"\n1\n", b"\n"),
        FEAT.replace(b" 9999:2\n1\n", b"\n1 9999:2\n"),
        FEAT + FEAT,
    ],
)
def test_everything_else_counts(other):
    assert bags.decode_bags(other, "x").sha256 != bags.decode_bags(FEAT, "x").sha256


def test_the_digest_of_a_small_file_is_known():
    """It is that of the rows, then all ratings, lengths, words and counts in little endian."""
    expected = hashlib.sha256(
        b"4 6\n"
        + bytes([9, 1, 4, 10])
        + b"".join(n.to_bytes(2, "little") for n in (3, 0, 2, 1, 0, 1, 9999, 2, 3, 17))
        + b"".join(n.to_bytes(4, "little") for n in (9, 1, 2, 300, 1, 1))
    )
    assert bags.decode_bags(FEAT, "x").sha256 == expected.hexdigest()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "line 1 is not `rating word:count word:count ...`"),
        (b"\n", "line 1 is not"),
        (b"9 1:1\n\n8 1:1\n", "line 2 is not"),
        (b"9 1:1\r\n", "line 1 holds the byte 0x0d"),
        (b"9 1:1\n8 1:x\n", "line 2 holds the byte 0x78"),
        (b"9 1:-1\n", "line 1 holds the byte 0x2d"),
        (b"\x1f\x8b\x08\x00", "line 1 holds the byte 0x1f"),
        (b"9 1:1\n8 1:\n", "line 2 is not"),
        (b"9 1:1\n8 1", "line 2 is not"),
        (b"9 1:1:1\n", "line 1 is not"),
        (b"9 1 1\n", "line 1 is not"),
        (b"9:1 1:1\n", "line 1 is not"),
        (b"9  1:1\n", "line 1 is not"),
        (b" 9 1:1\n", "line 1 is not"),
        (b"9 1:1 \n", "line 1 is not"),
        (b"9 1:1\n0 1:1\n", "line 2 has a rating that is not 1 to 10"),
        (b"11 1:1\n", "line 1 has a rating"),
        (b"9 1:1\n9 1:1 5:0\n", "line 2 counts a word 0 times"),
        (b"9 1:1\n9 5:1 4:1\n", "line 2 has words that do not ascend"),
        (b"9 1:1\n9 3:1 5:1 5:1\n", "line 2 has words that do not ascend"),
        (b"9 1:1234567890\n", "line 1 holds a number of more than 9 digits"),
        (b"9 1:99999999999999999999999999\n", "line 1 holds a number of more than 9 digits"),
    ],
)
def test_parse_bags_refuses(data, problem):
    with pytest.raises(DataError) as error:
        bags.parse_bags(data, "some-file")
    assert one_line(error).startswith(f"some-file is not a list of word counts: {problem}")


def test_pad():
    words, counts = bags.pad(bags.parse_bags(FEAT, "x"))
    end = bags.PADDING
    assert words.tolist() == [[0, 1, 9999], [end, end, end], [2, 3, end], [17, end, end]]
    assert counts.tolist() == [[9, 1, 2], [0, 0, 0], [255, 1, 0], [1, 0, 0]]
    assert (words.dtype, counts.dtype) == (np.uint16, np.uint8)


# --- The real reviews --------------------------------------------------------------------------


def test_other_reviews_are_refused(uncached, folder):
    for file in DATASETS["imdb"].files:
        put(folder, file.path, FEAT)
    with pytest.raises(DataError, match=r"train/labeledBow.feat is damaged: it has ") as error:
        imdb.load()
    one_line(error)
    with pytest.raises(DataError) as error:
        files.verify("imdb")
    text = one_line(error)
    assert "imdb.vocab is truncated" in text
    assert text.count("labeledBow.feat is damaged") == 2


def sealed(folder, part: str, content: bytes) -> None:
    """A file with the seal that `fetch` would have left beside it."""
    file = next(f for f in DATASETS["imdb"].files if f.path == f"aclImdb/{part}/labeledBow.feat")
    put(folder, file.path, content)
    put(folder, f"{file.path}.sha256", files.seal_text(folder / file.path, content, file))


@pytest.fixture
def original(folder) -> bytes:
    """Reviews of other words than the pinned ones, with the publisher's ratings, and a seal."""
    counts = {7: 2496, 8: 3009, 9: 2263, 10: 4732, 1: 5100, 2: 2284, 3: 2420, 4: 2696}
    content = b"".join(b"%d 0:1 17:2\n" % rating * n for rating, n in counts.items())
    put(folder, "aclImdb/imdb.vocab", b"")
    sealed(folder, "train", content)
    return content


def test_an_original_is_known_by_its_seal_and_its_ratings(uncached, folder, original):
    file = DATASETS["imdb"].files[1]
    assert len(files.decoded(file).ratings) == 25_000
    seal = folder / f"{file.path}.sha256"
    lines = seal.read_text().splitlines()
    assert lines[0].endswith("  labeledBow.feat")
    assert lines[1] == f"{DATASETS['imdb'].archive.sha256}  aclImdb_v1.tar.gz"
    seal.write_text(f"{lines[0]}\n")  # what `sha256sum` prints
    with pytest.raises(DataError, match=r"train/labeledBow.feat is damaged: the SHA-256"):
        files.decoded(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"9 ", b"8 ", 1),  # a rating
        lambda content: content[: content.rindex(b"4 ")],  # a review less
        lambda content: content + b"4 1:1\n",
        lambda content: b"1 0:1 17:2\n" + content.replace(b"\n1 0:1 17:2\n", b"\n", 1),  # order
    ],
)
def test_no_seal_makes_up_for_other_ratings(uncached, folder, original, change):
    sealed(folder, "train", change(original))
    with pytest.raises(DataError, match=r"train/labeledBow.feat is damaged: it has ") as error:
        files.decoded(DATASETS["imdb"].files[1])
    assert "not 2496x7 3009x8" in one_line(error)


def check(reviews, widths):
    """What the real reviews and the stand-in have in common."""
    parts = (reviews[:3], reviews[3:])
    for (words, counts, labels), width in zip(parts, widths, strict=True):
        assert words.shape == counts.shape == (25000, width)
        assert labels.shape == (25000,)
        assert (words.dtype, counts.dtype, labels.dtype) == (np.uint16, np.uint8, np.uint8)
        assert not any(a.flags.writeable for a in (words, counts, labels))
        assert np.bincount(labels).tolist() == [12500, 12500]
        assert labels[:12500].all(), "the positive ones come first"
        assert words.max() == bags.PADDING == bags.VOCABULARY == 10000
        assert ((words == bags.PADDING) == (counts == 0)).all()
        ascending = words[:, 1:] > words[:, :-1]
        assert (ascending | (words[:, 1:] == bags.PADDING)).all()
        assert (words[:, -1] < bags.PADDING).any(), "wider than the longest review"
        assert (words[:, 0] < bags.PADDING).all(), "an empty review"


@real_imdb
def test_imdb_is_that_of_its_publisher(real, uncached):
    start = time.process_time()
    reviews = imdb.load()
    assert time.process_time() - start < 15, "one core needs about 2 s"
    check(reviews, (568, 749))
    assert reviews.x_train[0, :8].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert reviews.counts_train[0, :8].tolist() == [9, 1, 4, 4, 6, 4, 2, 2]
    # As in the publisher's first lines, without the words from 10,000 on.
    assert reviews.counts_test[0, :8].tolist() == [7, 4, 2, 5, 5, 1, 3, 1]
    first = reviews.x_train[0][reviews.x_train[0] < bags.PADDING]
    assert first[-4:].tolist() == [5731, 5812, 8319, 8567]
    lengths = (reviews.x_train < bags.PADDING).sum(axis=1)
    assert lengths.mean() == pytest.approx(126.516, abs=1e-3)
    assert imdb.load("imdb") is reviews, "loaded twice"


@real_imdb
def test_words_are_numbered_by_their_frequency(real):
    words = files.read(DATASETS["imdb"].files[0]).decode().split()[:10000]
    assert len(words) == len(set(words)) == 10000
    assert words[:5] == ["the", "and", "a", "of", "to"]
    reviews = imdb.load()
    total = np.bincount(reviews.x_train.ravel(), reviews.counts_train.ravel(), minlength=10001)
    # It counts the unlabelled reviews, too, so that the order is nearly that of these.
    order = total[:10000].reshape(100, 100).sum(axis=1)
    assert (np.diff(order) < 0).all()


@real_imdb
def test_verify_knows_the_reviews_with_all_words(folder):
    """The publisher's files go on beyond the 10,000 most frequent words."""
    for file in DATASETS["imdb"].files:
        content = (Path(REAL or "") / file.path).read_bytes()
        if file.path.endswith(".feat"):
            content = content.replace(b"\n", b" 10480:1 89526:12\n")
        put(folder, file.path, content)
    files.verify("imdb")
    assert files.available("imdb")


@real_imdb
@pytest.mark.parametrize("damage", ["truncated", "line", "count", "garbled"])
def test_damaged_reviews_are_refused(uncached, folder, damage):
    for file in DATASETS["imdb"].files:
        content = (Path(REAL or "") / file.path).read_bytes()
        if "test" in file.path:
            if damage == "truncated":
                content = content[:100_000]
            elif damage == "line":
                content = content[: content.rindex(b"\n", 0, -1) + 1]
            else:
                last = content.rindex(b":1\n")
                content = content[: last + 1] + (b"2" if damage == "count" else b"\0") + b"\n"
        put(folder, file.path, content)
    with pytest.raises(DataError, match=r"test/labeledBow.feat is damaged: ") as error:
        imdb.load()
    assert "train" not in one_line(error).split(": delete")[0]


# --- The stand-in ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return imdb.load("imdb-stand-in")


def test_stand_in_looks_like_imdb(drawn):
    check(drawn, (drawn.x_train.shape[1], drawn.x_test.shape[1]))
    assert imdb.load("imdb-stand-in") is drawn
    for words in (drawn.x_train, drawn.x_test):
        lengths = (words < bags.PADDING).sum(axis=1)
        assert 120 < lengths.mean() < 140  # IMDB: 127
        quartiles = np.percentile(lengths, [5, 25, 50, 75, 95])  # IMDB: 47, 82, 105, 154, 270
        assert (np.abs(quartiles / [47, 82, 105, 154, 270] - 1) < 0.2).all()
    seen = np.bincount(drawn.x_train.ravel(), minlength=10001)[:10000]
    assert seen.min() > 0, "a word that is in no review"
    assert seen[0] > 0.9 * 25000
    assert 10 < np.median(seen[9000:]) < 100  # IMDB: 43


def test_stand_in_is_the_same_everywhere(drawn):
    """Other values need another number in `catalogue.STAND_INS`."""
    content = hashlib.sha256(b"".join(array.tobytes() for array in drawn)).hexdigest()
    assert (catalogue.STAND_INS["imdb-stand-in"], content[:16]) == ("reviews-1", "7c07a829808a0a7c")


def test_stand_in_reviews_differ(drawn):
    rows = {row.tobytes() for x in (drawn.x_train, drawn.x_test) for row in x[:, :500]}
    assert len(rows) > 49_990


def test_stand_in_can_be_learned_but_not_trivially(drawn):
    """Logistic regression: about 89% of unseen reviews, as with IMDB."""
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression

    def matrix(words):
        there = words < bags.PADDING
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        values = np.ones(starts[-1], np.float32)
        return csr_array((values, words[there].astype(np.int32), starts), shape=(25000, 10000))

    model = LogisticRegression(C=0.03, solver="liblinear")
    model.fit(matrix(drawn.x_train), drawn.y_train)
    assert 0.85 < model.score(matrix(drawn.x_test), drawn.y_test) < 0.92

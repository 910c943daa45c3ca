"""Published records: what is written reads back bit by bit; what is damaged is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import pages
from experiments.records import published
from experiments.records.store import PARTS, checksum
from experiments.studies import STUDIES
from experiments.study import config_id

number = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
whole = st.integers(-(2**70), 2**70)
value = st.one_of(
    st.none(), st.booleans(), whole, number, text, st.lists(text), st.dictionaries(text, whole)
)
group = st.dictionaries(text, value, max_size=3)


@st.composite
def records(draw, names=("training_cost", "a metric")):
    passes = draw(st.integers(0, 3))
    column = st.lists(number, min_size=passes, max_size=passes)
    diverged = passes == 0 or draw(st.booleans())
    config = {name: draw(text) for name in ("problem", "data", "optimizer", "data_fingerprint")}
    config |= {name: draw(st.integers(0, 2**40)) for name in ("batch_size", "epochs", "seed")}
    return {
        "config": config | {name: draw(group) for name in published.GROUPS},
        "status": "diverged" if diverged else "finished",
        "diverged_at": passes if diverged else None,
        "metrics": {name: draw(column) for name in names},
        "manifest": draw(group),
    }


def bits(record) -> str:
    """All content, with floats to the last bit and the sign of zero."""
    return json.dumps({part: record[part] for part in PARTS}, sort_keys=True)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.one_of(records(), records(names=("training_cost", "only here")), records(names=())),
        min_size=1,
        max_size=4,
        unique_by=lambda record: config_id(record["config"]),
    )
)
def test_records_read_back_bit_by_bit(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("published") / "study.parquet"
    published.write(path, found, {})
    back = published.read(path)
    assert len(back) == len(found)
    for record in found:
        assert bits(back[config_id(record["config"])]) == bits(record)
    first = path.read_bytes()
    published.write(path, reversed(list(back.values())), {})
    assert path.read_bytes() == first


def a_record(seed: int, costs: list[float], **settings) -> dict:
    config = dict.fromkeys(published.FIELDS, "") | {"batch_size": 1, "epochs": 2, "seed": seed}
    config |= {"options": {"l2": 0.0}, "settings": settings, "numerics": {"training": 1}}
    return {
        "config": config,
        "status": "finished",
        "diverged_at": None,
        "metrics": {"training_cost": costs},
        "manifest": {"devices": ["CPU"], "wall_seconds": 0.5},
    }


RECORDS = [
    a_record(0, [0.5, 0.25], learning_rate=0.1),
    a_record(1, [0.75, 0.125], learning_rate=1, momentum=0.9),
    {**a_record(2, [], learning_rate=10.0), "status": "diverged", "diverged_at": 0},
]


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "study.parquet"
    runs = {config_id(record["config"]): ("Adam", "matched; tuned") for record in RECORDS[:2]}
    published.write(path, RECORDS, runs)
    return path


def test_pandas_alone_reads_the_table(table):
    frame = pd.read_parquet(table)
    assert len(frame) == 5
    whole = frame.dropna(subset="pass")
    costs = whole.pivot(index="seed", columns="pass", values="training_cost")
    assert costs.loc[0].tolist() == [0.5, 0.25]
    assert costs.loc[1].tolist() == [0.75, 0.125]
    assert set(whole["arm"]) == {"Adam"}
    assert set(whole["role"]) == {"matched; tuned"}
    assert whole["manifest.wall_seconds"].tolist() == [0.5] * 4
    assert whole["settings.momentum"].isna().tolist() == (whole["seed"] == 0).tolist()
    # 0.1, 1 and 10.0 are not of one type: they stay what they are, as text.
    assert set(frame["settings.learning_rate"]) == {"0.1", "1", "10.0"}
    diverged = frame[frame["pass"].isna()]
    assert diverged["training_cost"].isna().all()
    assert diverged["diverged_at"].tolist() == [0]


@pytest.mark.parametrize("study", [s for s in STUDIES.values() if pages.published_file(s).exists()])
def test_what_is_published_is_tidy(study):
    """A stranger's table has the numbers that the pages show."""
    frame = pd.read_parquet(pages.published_file(study))
    found, rows_of = pages.published(study), dict(list(frame.groupby("run", sort=False)))
    assert found.plan.entries
    for entry in found.plan.entries:
        record, rows = found.records.get(entry.run.id), rows_of.get(entry.run.id)
        assert (record is None) == (rows is None)
        if record is None:
            continue
        first = rows.iloc[0]
        assert entry.role in first["role"].split("; ")
        assert entry.arm in first["arm"].split("; ")
        assert (rows["seed"] == entry.run.seed).all()
        assert all(first[f"settings.{name}"] == v for name, v in entry.run.settings.items())
        for name, values in record["metrics"].items():
            assert rows[name].dropna().tolist() == values


# --- damage ---------------------------------------------------------------------------------------


def flips(path: Path, count: int, seed: int) -> dict[str, int]:
    """How many of `count` files with one flipped bit are refused, and how many read the same.

    Raises:
        AssertionError: one reads otherwise.
    """
    content, good, frame = path.read_bytes(), published.read(path), pd.read_parquet(path)
    chosen, found = random.Random(seed), {"refused": 0, "harmless": 0}
    bad = path.with_suffix(".bad")
    for _ in range(count):
        place = chosen.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        bad.write_bytes(flipped)
        try:
            same = published.read(bad)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 (one line)
            found["refused"] += 1
            continue
        assert repr(same) == repr(good), place
        pd.testing.assert_frame_equal(pd.read_parquet(bad), frame)
        found["harmless"] += 1
    return found


def test_every_flipped_bit_is_refused_or_harmless(table):
    found = flips(table, 250, seed=1)
    assert found["refused"] > found["harmless"] > 0


def rewritten(path: Path, change) -> None:
    """The file with its table changed by somebody who keeps the form."""
    with pyarrow.parquet.ParquetFile(path) as file:
        about, rows = file.metadata.metadata, file.read()
    pyarrow.parquet.write_table(change(rows).replace_schema_metadata(about), path)


def with_column(rows, name, values):
    place = rows.column_names.index(name)
    return rows.set_column(place, name, pyarrow.array(values, rows.schema.field(name).type))


def as_bytes(rows, name):
    """As a flipped bit in the description of a column makes it."""
    place = rows.column_names.index(name)
    return rows.set_column(place, name, rows.column(name).cast(pyarrow.binary()))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.slice(1),
        lambda rows: rows.take([1, 0, *range(2, len(rows))]),
        lambda rows: rows.filter(pyarrow.compute.field("pass") == 0),
        lambda rows: pyarrow.concat_tables([rows, rows]),
        lambda rows: rows.take([0, 0, *range(1, len(rows))]),
        lambda rows: with_column(rows, "training_cost", [1.0] * len(rows)),
        lambda rows: with_column(rows, "seed", [3] * len(rows)),
        lambda rows: with_column(rows, "manifest.wall_seconds", [3.0] * len(rows)),
        lambda rows: with_column(rows, "settings.learning_rate", ["[" * 200_000] * len(rows)),
        lambda rows: with_column(rows, "status", ["finished"] * len(rows)),
        lambda rows: as_bytes(rows, "role"),
        lambda rows: as_bytes(rows, "status"),
        lambda rows: rows.drop_columns("settings.momentum"),
        lambda rows: rows.drop_columns("checksum"),
        lambda rows: rows.rename_columns({"training_cost": "objective"}),
    ],
)
def test_a_changed_table_is_refused(table, change):
    before = [bits(record) for record in published.read(table).values()]
    rewritten(table, lambda rows: rows)
    assert [bits(record) for record in published.read(table).values()] == before
    rewritten(table, change)
    with pytest.raises(ValueError, match=r"study\.parquet does not hold records \(.*; restore it"):
        published.read(table)


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.99])
def test_a_truncated_file_is_one_line(table, kept):
    content = table.read_bytes()
    table.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"study\.parquet is not a whole Parquet file") as caught:
        published.read(table)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"study\.parquet is not a whole Parquet file"):
        published.Published(table.parent)


@pytest.mark.parametrize("columns", [{"a": [1, 2]}, {"run": ["0" * 16], "config": ["{"]}])
def test_a_foreign_file_is_one_line(tmp_path, columns):
    path = tmp_path / "study.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ValueError, match=r"study\.parquet does not hold records \(.*; restore it"):
        published.read(path)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**RECORDS[0], "config": {}}, "is not that of a run"),
        ({**RECORDS[0], "metrics": {"seed": [1.0]}}, "a metric can't be called 'seed'"),
        ({**RECORDS[0], "metrics": {"a": [1.0], "b": []}}, "metrics of different lengths"),
        ({**RECORDS[0], "metrics": {"a": [math.nan]}}, "not JSON compliant"),
    ],
)
def test_what_the_table_can_not_hold_is_refused(tmp_path, record, reason):
    with pytest.raises(ValueError, match=reason):
        published.write(tmp_path / "study.parquet", [record], {})
    assert not list(tmp_path.iterdir())


def test_a_run_that_left_its_file_while_others_read_it_is_gone(table):
    """`publish` may drop a run while a command that began before it goes on."""
    there = published.Published(table.parent)
    run_id = config_id(RECORDS[0]["config"])
    assert there.get(run_id)
    published.write(table, RECORDS[1:], {})
    assert there.get(run_id) is None
    assert there.get(config_id(RECORDS[1]["config"]))


def test_a_changed_file_is_read_again(table):
    run_id = config_id(RECORDS[0]["config"])
    record = published.Published(table.parent).get(run_id)
    assert record["metrics"] == {"training_cost": [0.5, 0.25]}
    assert checksum(record) == checksum(RECORDS[0])
    assert published.Published(table.parent).get(run_id) is record
    published.write(table, [{**RECORDS[0], "metrics": {"training_cost": [9.0]}}], {})
    assert published.Published(table.parent).get(run_id)["metrics"] == {"training_cost": [9.0]}
    assert published.Published(table.parent).get("0" * 16) is None

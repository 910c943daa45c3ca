"""Published records: `results/STUDY.parquet`, a table of one row per run and pass.

`pandas.read_parquet` is all you need to analyse them. The columns:

- `run`, the run's id; `arm` and `role`, what the study uses it for ("Adam"; "matched; tuned");
- its configuration: `problem`, `data`, `optimizer`, `batch_size`, `epochs`, `seed`,
  `data_fingerprint`, and `options.NAME`, `settings.NAME`, `numerics.NAME`, null where not given;
- `status`, `diverged_at`, `pass` (from 0), and one column per metric;
- `manifest.NAME`, how it was trained (`manifest.drawn`: what a diffusion model drew last, a PNG in
  base64), and `checksum`, that of its JSON file.

A run that ended in its first pass has one row, without `pass`; its metrics are NaN. A column whose
values are not all of one plain type holds JSON; the file's metadata list these columns. Values that
repeat from row to row take up almost no space.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records.store import FORMAT, checksum, write_atomically
from experiments.study import config_id

TABLE = "2"  # version of the table; a record in it has its own, `store.FORMAT`
FIELDS = ("problem", "data", "optimizer", "batch_size", "epochs", "seed", "data_fingerprint")
GROUPS = ("options", "settings", "numerics")
FIXED = ("run", "arm", "role", *FIELDS, "status", "diverged_at", "pass", "checksum")
PREFIXES = tuple(f"{group}." for group in (*GROUPS, "manifest"))
# A table takes at most 20 times its file's size in memory; one that takes far more is not ours.
UNPACKED, SLACK = 100, 1 << 20
TEXT, NUMBERS = "BYTE_ARRAY", ("BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE")
_ABSENT = object()  # a value that a run does not have, since None may be a value
Record = Mapping[str, Any]


class Published:
    """The published records of all studies, read-only: `results/*.parquet`.

    A file is read when one of its records is first asked for, and then kept.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._files = {
            run_id: file
            for file in sorted(self.path.glob("*.parquet"))
            for run_id in _unless_changed(file, _ids)
        }

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The published record of a run, or None; also if its file has lost it by now.

        Raises:
            ValueError: its file is damaged.
        """
        file = self._files.get(run_id)
        return None if file is None else _unless_changed(file, read).get(run_id)

    def ids(self) -> list[str]:
        """The ids of all published records."""
        return sorted(self._files)


def _unless_changed(path: Path, function: Callable[[Path], Any]) -> Any:
    """What a function finds in a file, kept until the file changes."""
    state = path.stat()
    return _kept(path, function, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.lru_cache(maxsize=128)
def _kept(path: Path, function: Callable[[Path], Any], *state: int) -> Any:
    return function(path)


# --- writing --------------------------------------------------------------------------------------


def write(path: Path, records: Iterable[Record], uses: Mapping[str, tuple[str, str]]) -> None:
    """Write the table of a study, whole or not at all.

    Args:
        path: the file.
        records: in any order; it does not affect the file.
        uses: arm and role of each run, by its id.

    Raises:
        ValueError: such a table can't hold a record or a metric.
    """
    import pyarrow.parquet

    found = {config_id(record["config"]): record for record in records}
    table, numbers, coded = _table(dict(sorted(found.items())), uses)
    buffer = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"table": TABLE, "json": json.dumps(sorted(coded))})
    write_atomically(path, buffer.getvalue())


def _table(
    records: Mapping[str, Record], uses: Mapping[str, tuple[str, str]]
) -> tuple[Any, list[str], list[str]]:
    """The table, the names of its columns whose numbers hardly repeat, and of its JSON columns."""
    import pyarrow

    metrics = _metrics(records.values())
    passes = [_passes(record) for record in records.values()]
    lines = [
        _line(run_id, {**record, "metrics": values}, uses)
        for (run_id, record), values in zip(records.items(), metrics, strict=True)
    ]
    names = dict.fromkeys(itertools.chain(*lines))
    rows = np.repeat(np.arange(len(lines)), [max(1, count) for count in passes])
    coded: list[str] = []

    def repeated(name: str) -> Any:
        values = [line.get(name, _ABSENT) for line in lines]
        if name != "diverged_at" and not _plain(values):
            coded.append(name)
            values = [v if v is _ABSENT else json.dumps(v, sort_keys=True) for v in values]
        return pyarrow.array([None if v is _ABSENT else v for v in values]).take(rows)

    def of(*prefixes: str) -> dict[str, Any]:
        return {n: repeated(n) for n in sorted(n for n in names if n.startswith(prefixes))}

    columns = {name: repeated(name) for name in ("run", "arm", "role", *FIELDS)}
    columns |= of(*(f"{group}." for group in GROUPS))
    columns |= {"status": repeated("status"), "diverged_at": repeated("diverged_at")}
    if columns["diverged_at"].type == pyarrow.null():
        columns["diverged_at"] = columns["diverged_at"].cast(pyarrow.int64())
    counted = (range(count) if count else (None,) for count in passes)
    columns["pass"] = pyarrow.array(itertools.chain(*counted), pyarrow.int64())
    numbers = []
    for name in dict.fromkeys(itertools.chain(*metrics)):
        parts = (
            (values[name] or [math.nan]) if name in values else [None] * max(1, count)
            for values, count in zip(metrics, passes, strict=True)
        )
        columns[name] = pyarrow.array(itertools.chain(*parts), pyarrow.float64())
        if 2 * len(columns[name].unique()) > len(columns[name]):  # accuracies repeat, costs don't
            numbers.append(name)
    columns |= of("manifest.") | {"checksum": repeated("checksum")}
    return pyarrow.table(columns), numbers, coded


def _plain(values: Sequence[Any]) -> bool:
    """Whether a column of one type holds these values as they are."""
    kinds = {type(value) for value in values if value is not _ABSENT}
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        return False
    return kinds != {int} or all(-(2**63) <= v < 2**63 for v in values if v is not _ABSENT)


def _passes(record: Record) -> int:
    """How many passes a record has."""
    lengths = {len(values) for values in record["metrics"].values()}
    if len(lengths) > 1:
        raise ValueError(f"run {config_id(record['config'])} has metrics of different lengths")
    return lengths.pop() if lengths else 0


def _metrics(records: Iterable[Record]) -> list[dict[str, list[float]]]:
    """Each record's metrics, as floats."""
    found = [
        {name: list(map(float, values)) for name, values in record["metrics"].items()}
        for record in records
    ]
    for name in dict.fromkeys(itertools.chain(*found)):
        if name in FIXED or name.startswith(PREFIXES):
            raise ValueError(f"a metric can't be called {name!r}: that is another column's name")
    return found


def _line(run_id: str, record: Record, uses: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """The values that all rows of a run share, by column."""
    config = record["config"]
    if set(config) != {*FIELDS, *GROUPS}:
        raise ValueError(f"the record of {run_id} is not that of a run")
    arm, role = uses.get(run_id, ("", ""))
    line = {"run": run_id, "arm": arm, "role": role, **{name: config[name] for name in FIELDS}}
    for group in GROUPS:
        line |= {f"{group}.{name}": value for name, value in config[group].items()}
    line |= {"status": record["status"], "diverged_at": record["diverged_at"]}
    line |= {f"manifest.{name}": value for name, value in record["manifest"].items()}
    return line | {"checksum": checksum(record)}


# --- reading --------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a published file by run id, each verified by its checksum.

    Raises:
        ValueError: the file is not such a table, or is damaged.
    """
    return _open(path, None, lambda about, table: dict(_records(about, table)))


def _ids(path: Path) -> list[str]:
    """The ids of a published file's records; nothing else of it is read."""
    return _open(path, ["run"], lambda about, table: table.column("run").unique().to_pylist())


def _open(path: Path, names: Sequence[str] | None, function: Callable[[Any, Any], Any]) -> Any:
    """What a function makes of a file's metadata and its table, or some columns of it."""
    import pyarrow
    import pyarrow.parquet

    try:
        size, about = path.stat().st_size, pyarrow.parquet.read_metadata(path)
        _check_columns(about, size)
        texts = [column.path for column in about.schema if column.physical_type == TEXT]
        with pyarrow.parquet.ParquetFile(
            path, metadata=about, read_dictionary=texts, page_checksum_verification=True
        ) as file:
            table = file.read(names)
            _check_texts(table, size)
            return function(about.metadata or {}, table)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a whole Parquet file ({reason}); restore it") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} does not hold records ({error}); restore it") from None


def _check_columns(about: Any, size: int) -> None:
    """Raise a ValueError if a file of `size` bytes has foreign columns, or far too many values."""
    for column in about.schema:
        if column.physical_type not in (TEXT, *NUMBERS) or column.max_repetition_level:
            raise ValueError(f"column {reprlib.repr(column.path)} is of a type that no record has")
    # A damaged file's statement about a single column's part can crash the process in Arrow.
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    rows = max(about.num_rows, sum(group.num_rows for group in groups))
    _check_size(sum(group.total_byte_size for group in groups), size)
    _check_size(8 * rows * about.num_columns, size)


def _check_texts(table: Any, size: int) -> None:
    """The same for the texts of a table, which repeat but are stored only once so far."""
    import pyarrow
    from pyarrow import compute

    total = 0
    for column in table.columns:
        for chunk in column.chunks if pyarrow.types.is_dictionary(column.type) else ():
            lengths = compute.binary_length(chunk.dictionary).cast(pyarrow.int64())
            total += compute.sum(lengths.take(chunk.indices)).as_py() or 0
    _check_size(total, size)


def _check_size(unpacked: int, size: int) -> None:
    if unpacked > UNPACKED * size + SLACK:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, of {size:,}")


def _records(about: Mapping[bytes, bytes], table: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if about.get(b"table") != TABLE.encode():
        raise ValueError(f"its table is of version {about.get(b'table')!r}, not {TABLE}")
    coded = json.loads(about[b"json"])
    runs = table.column("run").to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]][: len(runs)])
    ends = [*starts[1:], len(runs)]

    def once(name: str) -> list[Any]:
        values = table.column(name).take(starts).to_pylist()
        if name in coded:
            return [_ABSENT if v is None else json.loads(v) for v in values]
        return values if name in FIXED else [_ABSENT if v is None else v for v in values]

    own = {name: once(name) for name in (*FIXED[:3], *FIELDS, "status", "diverged_at", "checksum")}
    if not all(type(value) is str for name in FIXED[:3] for value in own[name]):
        raise ValueError("a run, an arm or a role is not text")  # the checksum has no role
    groups = {
        group: {
            name.removeprefix(f"{group}."): once(name)
            for name in table.column_names
            if name.startswith(f"{group}.")
        }
        for group in (*GROUPS, "manifest")
    }
    passes = _values(table.column("pass"))
    metrics = {
        name: _values(table.column(name))
        for name in table.column_names
        if name not in FIXED and not name.startswith(PREFIXES)
    }
    seen = set()
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        run_id = own["run"][i]
        parts = {
            group: {name: values[i] for name, values in each.items() if values[i] is not _ABSENT}
            for group, each in groups.items()
        }
        whole = passes[start:end] == list(range(end - start))
        if run_id in seen or not (whole or passes[start:end] == [None]):
            raise ValueError(f"the passes of run {run_id} are not in order")
        seen.add(run_id)
        record = {
            "format": FORMAT,
            "config": {name: own[name][i] for name in FIELDS}
            | {group: parts[group] for group in GROUPS},
            "status": own["status"][i],
            "diverged_at": own["diverged_at"][i],
            "metrics": {
                name: values[start:end] if whole else []
                for name, values in metrics.items()
                if values[start] is not None
            },
            "manifest": parts["manifest"],
        }
        if config_id(record["config"]) != run_id or checksum(record) != own["checksum"][i]:
            raise ValueError(f"the checksum of run {run_id} does not fit its rows")
        yield run_id, record


def _values(column: Any) -> list[Any]:
    """A column as a list; pyarrow's own way takes several times as long."""
    return column.to_pylist() if column.null_count else column.to_numpy().tolist()

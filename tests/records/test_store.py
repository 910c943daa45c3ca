"""Records on disk: nothing is lost, half written or trusted when it is damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from commands import DATA, RUN, STUDY, check_complete, last_line
from hypothesis import given
from hypothesis import strategies as st

from experiments import plan as planning
from experiments import study
from experiments.records import locks, store
from experiments.records.origin import Origin
from experiments.records.store import DamagedRecord, Store, decode, encode

if sys.platform == "win32":
    pytest.skip("signals and pseudo-terminals of POSIX", allow_module_level=True)

# --- records --------------------------------------------------------------------------------------

number = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), number, text)


@st.composite
def records(draw, names=("training_cost", "a metric")):
    epochs = draw(st.integers(0, 3))
    column = st.lists(number, min_size=epochs, max_size=epochs)
    diverged = epochs == 0 or draw(st.booleans())
    return {
        "config": draw(st.dictionaries(text, plain, max_size=3)),
        "status": "diverged" if diverged else "finished",
        "diverged_at": epochs if diverged else None,
        "metrics": {name: draw(column) for name in names},
        "manifest": draw(st.dictionaries(text, plain, max_size=3)) | {"wall_seconds": 0.5},
    }


def bits(record) -> str:
    """All content, with floats to the last bit and the sign of zero."""
    return json.dumps({part: record[part] for part in store.PARTS}, sort_keys=True)


@given(records())
def test_a_record_reads_back_bit_by_bit(record):
    run_id = study.config_id(record["config"])
    assert bits(decode(encode(record), run_id)) == bits(record)
    with pytest.raises(DamagedRecord, match="it is the record of run"):
        decode(encode(record), "0" * 16)


@given(records(), st.data())
def test_no_damage_passes_for_a_record(record, data):
    whole = encode(record)
    run_id = study.config_id(record["config"])
    place = data.draw(st.integers(0, len(whole) - 1))
    for content in (
        whole[:place],
        whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :],
        whole + whole[place:],
    ):
        with contextlib.suppress(DamagedRecord):  # a byte between the words may not matter
            assert bits(decode(content, run_id)) == bits(record)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_record_holds_finite_numbers_only(value):
    record = {part: {} for part in store.PARTS} | {"metrics": {"training_cost": [value]}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(record)


GOOD = {
    "config": {"seed": 1},
    "status": "finished",
    "diverged_at": None,
    "metrics": {"training_cost": [0.5]},
    "manifest": {"wall_seconds": 0.5},
}


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"status": "diverged"},
        {"diverged_at": 0},
        {"manifest": None},
        {"manifest": {}},
        {"manifest": {"wall_seconds": "1"}},
        {"manifest": {"wall_seconds": 10**400}},
        {"metrics": {"training_cost": [0.5, "x"]}},
        {"metrics": {"training_cost": [0.5], "objective": []}},
        {"metrics": {"training_cost": 0.5}},
        {"metrics": []},
    ],
)
def test_a_right_checksum_over_wrong_parts_is_no_record(change):
    run_id = study.config_id(GOOD["config"])
    assert decode(encode(GOOD), run_id)
    with pytest.raises(DamagedRecord, match=r"its parts are not|it is not a whole record"):
        decode(encode({**GOOD, **change}), run_id)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5_000])
def test_deep_and_long_texts_are_no_records(content):
    with pytest.raises(DamagedRecord, match="it is not a whole record"):
        decode(content, "0" * 16)


def checkpoint(folder: Path, metrics=None) -> tuple[Store, study.Run, Path]:
    """A store with a checkpoint of a run with one pass."""
    run = planning.plan(STUDY, "smoke", DATA, Store(folder)).runs()[0]
    records = Store(folder)
    records.save_checkpoint(run, [np.ones(3)], metrics or {"training_cost": [0.5]})
    return records, run, folder / f"{run.lineage}.checkpoint"


def sealed(**arrays) -> bytes:
    """A right checksum over these arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"short", "it is damaged"),
        (hashlib.sha256(b"").digest(), "it is no checkpoint"),
        (hashlib.sha256(b"PK none").digest() + b"PK none", "it is no checkpoint"),
        (sealed(a=np.ones(2)), "it is no checkpoint"),
        (sealed(facts=np.array("[1]")), "it is no checkpoint"),
        (sealed(facts=np.array("[" * 200_000)), "it is no checkpoint"),
        (sealed(facts=np.array("{}"), array_1=np.ones(2)), "it is no checkpoint"),
    ],
)
def test_a_checkpoint_that_is_none_is_named_and_ignored(tmp_path, content, reason):
    records, run, path = checkpoint(tmp_path)
    assert records.load_checkpoint(run, lambda arrays: True).metrics == {"training_cost": [0.5]}
    path.write_bytes(content)
    assert records.load_checkpoint(run, lambda arrays: True) is None
    line = f"{path} is ignored: {reason}; its run starts from the beginning"
    assert records.damaged == [line]


def test_a_checkpoint_is_of_one_lineage(tmp_path):
    """Seed 0's under seed 1's name is not gone on from."""
    records, run, path = checkpoint(tmp_path)
    other = dataclasses.replace(run, seed=run.seed + 1)
    path.rename(tmp_path / f"{other.lineage}.checkpoint")
    assert records.load_checkpoint(other, lambda arrays: True) is None
    assert "it is another run's" in records.damaged[0]
    longer = dataclasses.replace(run, epochs=run.epochs + 1)
    assert longer.lineage == run.lineage


def test_a_checkpoint_of_another_backend_is_not_gone_on_from(tmp_path):
    """The two have other noise: a record must not hold passes of both."""
    records, run, path = checkpoint(tmp_path)
    origin = Origin("tensorflow", ("a processor",), ("0123456789ab",))
    records.save_checkpoint(run, [np.ones(3)], {"training_cost": [0.5]}, None, origin)
    assert records.load_checkpoint(run, lambda arrays: True, "tensorflow").origin == origin
    assert records.load_checkpoint(run, lambda arrays: True, "jax") is None
    line = (
        f"{path} is ignored: it is from the backend tensorflow; its run starts from the beginning"
    )
    assert records.damaged == [line]


def test_checkpoints_are_written_and_read_without_copies(tmp_path):
    """SFO's state may be gigabytes; a copy too many has the system kill the process."""
    records, run, path = checkpoint(tmp_path)
    arrays = [np.random.default_rng(0).random((k + 1) << 20) for k in range(3)]  # 48 MiB
    size = sum(array.nbytes for array in arrays)
    tracemalloc.start()
    records.save_checkpoint(run, arrays, {"training_cost": [0.5]})
    _, saving = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    found = records.load_checkpoint(run, lambda arrays: True)
    _, loading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(map(np.array_equal, found.arrays, arrays))
    assert path.stat().st_size > size
    assert saving < 0.5 * size
    assert loading < 1.5 * size


@pytest.mark.parametrize(
    "metrics", [{"a": [1.0]}, {"training_cost": [1.0, 2.0], "objective": [1.0]}]
)
def test_a_checkpoint_needs_whole_passes(tmp_path, metrics):
    records, run, _ = checkpoint(tmp_path, metrics)
    assert records.load_checkpoint(run, lambda arrays: True) is None
    assert "it is no checkpoint" in records.damaged[0]


def test_folders_and_pipes_in_the_place_of_files(tmp_path):
    _, run, path = checkpoint(tmp_path)
    path.unlink()
    lock = tmp_path / f"{run.lineage}.lock"
    for make, what in ((os.mkdir, "it is a folder"), (os.mkfifo, "it is not a file")):
        for place in (lock, path, tmp_path / f"{run.id}.json"):
            make(place)
        found = Store(tmp_path)
        with found.claim(run.lineage) as claimed:
            assert claimed
        assert found.load_checkpoint(run, lambda arrays: True) is None
        assert found.get(run.id) is None
        assert [line.split(": ", 1)[1].split(";")[0] for line in found.damaged] == [what] * 3
        found.put({**GOOD, "config": run.config()})
        found.save_checkpoint(run, [], {"training_cost": [0.5]})
        assert Store(tmp_path).get(run.id)["metrics"] == GOOD["metrics"]
        found.drop_checkpoint(run)
        lock.rmdir() if lock.is_dir() else lock.unlink()
        (tmp_path / f"{run.id}.json").unlink()
        assert not path.exists() or path.is_fifo()
        path.unlink(missing_ok=True)


def test_nothing_that_is_set_aside_is_lost(tmp_path):
    record = {**GOOD, "config": {"seed": 2}}
    run_id = study.config_id(record["config"])
    for content in (b"first", b"second", b"third"):
        (tmp_path / f"{run_id}.json").write_bytes(content)
        Store(tmp_path).put(record)
    kept = [path.read_bytes() for path in sorted(tmp_path.glob("*.damaged*"))]
    assert kept == [b"first", b"second", b"third"]


def test_what_killed_commands_left_is_swept(tmp_path):
    records = Store(tmp_path)
    old, young, future = (tmp_path / f".new-{name}" for name in ("old", "young", "future"))
    free, mine, other = (tmp_path / f"{name}.lock" for name in ("0" * 16, "1" * 16, "notes"))
    for path in (old, young, future, free, other):
        path.touch()
    os.utime(old, (time.time() - 2 * store.STALE,) * 2)
    os.utime(future, (time.time() + 2 * store.STALE,) * 2)  # a clock that was set back
    with records.claim("1" * 16) as claimed:
        assert claimed
        Store(tmp_path).check_writable()
        assert mine.exists()
        with Store(tmp_path).claim("1" * 16) as again:
            assert not again
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".new-young", ".new-future", "notes.lock"}


def test_what_is_being_written_is_not_swept_whatever_the_clock_says(tmp_path, monkeypatch):
    """Another command starts, centuries later by its clock, while a file is half written."""
    whole, left = store.os.fsync, []

    def sweep(descriptor):
        monkeypatch.setattr(store.os, "fsync", whole)
        monkeypatch.setattr(store.time, "time", lambda: 1e10)
        Store(tmp_path).check_writable()
        left.append([path.name for path in tmp_path.glob(".new-*")])
        whole(descriptor)

    monkeypatch.setattr(store.os, "fsync", sweep)
    store.write_atomically(tmp_path / "file", b"content")
    assert len(left[0]) == 1
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize("times", [1, store.TRIES])
def test_a_folder_that_is_removed_while_a_file_is_written(tmp_path, monkeypatch, times):
    folder, whole, tries = tmp_path / "records", store.os.fsync, []

    def remove(descriptor):
        whole(descriptor)
        tries.append(descriptor)
        if len(tries) <= times:
            shutil.rmtree(folder)

    monkeypatch.setattr(store.os, "fsync", remove)
    if times == store.TRIES:
        with pytest.raises(FileNotFoundError, match=f"cannot write {folder}/file: No such file"):
            store.write_atomically(folder / "file", b"content")
    else:
        store.write_atomically(folder / "file", b"content")
        assert (folder / "file").read_bytes() == b"content"
    assert not list(tmp_path.rglob(".new-*"))


def test_a_lock_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    """Two commands never hold one run, though the first removes the file that the second opened."""
    first, second = Store(tmp_path), Store(tmp_path)
    opened = store._open_regular
    with contextlib.ExitStack() as stack:
        stack.enter_context(first.claim("0" * 16))

        def late(path, flags):
            file = opened(path, flags)
            stack.close()  # the first ends between the opening and the locking
            monkeypatch.setattr(store, "_open_regular", opened)
            return file

        monkeypatch.setattr(store, "_open_regular", late)
        with second.claim("0" * 16) as claimed:
            assert claimed
            with Store(tmp_path).claim("0" * 16) as third:
                assert not third


# --- damaged and foreign files --------------------------------------------------------------------


def test_damaged_and_foreign_files_are_named_set_aside_and_trained_again(command):
    assert command()[0] == 0
    ids = Store(command.records).ids()
    files = [command.records / f"{run_id}.json" for run_id in ids]
    good = {path: path.read_bytes() for path in files}
    flipped = bytearray(good[files[1]])
    digit = re.compile(rb'"training_cost": \[\s*\d').search(flipped)
    assert digit
    flipped[digit.end() - 1] ^= 1  # another digit
    bad = {
        files[0]: good[files[0]][:100],
        files[1]: bytes(flipped),
        files[2]: good[files[3]],
        files[4]: b"",
        files[5]: b"\xff\xfe",
        files[6]: b'{"format": 1}',
        files[7]: b"[]",
    }
    for path, content in bad.items():
        path.write_bytes(content)
    files[8].unlink()
    files[8].mkdir()
    foreign = {
        command.records / "notes.json": b"{}",
        command.records / "notes.txt": b"mine",
        command.records / ".new-half": b'{"format',
        command.records / f"{ids[0]}.lock": b"",
        command.records / f"{ids[0]}.checkpoint": b"short",
    }
    for path, content in foreign.items():
        path.write_bytes(content)
    command.log.write_text("")

    code, out, err = command()
    assert code == 0
    assert "36 runs done" in out
    for path, reason in {
        files[0]: "it is not a whole record",
        files[1]: "its checksum does not fit its content",
        files[2]: f"it is the record of run {ids[3]}",
        files[4]: "it is not a whole record",
        files[5]: "it is not a whole record",
        files[6]: "it is not a whole record",
        files[7]: "it is not a whole record",
        files[8]: "it is a folder",
    }.items():
        assert err.count(f"{path} is ignored: {reason}; its run will be trained again") == 1
    assert err.count("notes.json is ignored: it is not named after a run") == 1
    assert sorted(set(command.trained())) == sorted([*(path.stem for path in bad), ids[8]])
    assert len(command.trained()) == 8
    for path, content in bad.items():
        assert path.with_suffix(".damaged").read_bytes() == content
        assert path.read_bytes() == good[path]
    assert files[8].with_suffix(".damaged").is_dir()
    for name in ("notes.json", "notes.txt", ".new-half"):
        assert (command.records / name).read_bytes() == foreign[command.records / name]
    code, _, err = command()
    assert code == 0
    assert err.count("is ignored") == 1  # the foreign file


def test_a_damaged_checkpoint_is_named_and_ignored(command):
    command.change(
        """
        def resume(run, records, on_epoch=None, keep=False, fresh=train):
            assert records.load_checkpoint(run, lambda arrays: True) is None
            return fresh(run, records, on_epoch)
        training.train = resume
        """
    )
    run = planning.plan(STUDY, "smoke", DATA, Store(command.records)).runs()[0]
    records = Store(command.records)
    records.save_checkpoint(run, [], {})
    path = command.records / f"{run.lineage}.checkpoint"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, err = command()
    assert code == 0
    assert "36 runs done" in out
    line = f"{path} is ignored: it is damaged; its run starts from the beginning"
    assert err.count(line) == 1
    assert not path.exists()


# --- disks ----------------------------------------------------------------------------------------


def test_a_full_disk_is_found_before_training(command):
    command.change(
        """
        def full(descriptor):
            raise OSError(28, "No space left on device")
        os.fsync = full
        """
    )
    code, _, err = command()
    assert code == 1
    assert not command.trained()
    assert err.splitlines()[2:] == [last_line(err)]
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith("No space left on device")
    assert not list(command.records.glob("*"))
    command.change()
    check_complete(command)


@pytest.mark.parametrize("number", sorted(locks.NONE))
def test_a_file_system_without_locks_is_found_before_training(command, number):
    command.change(
        f"""
        import fcntl
        def none(file, how):
            raise OSError({number}, os.strerror({number}))
        fcntl.flock = none
        """
    )
    code, out, err = command()
    assert code == 1
    assert not out
    assert not command.trained()
    assert last_line(err) == (
        f"adam-study: {command.records} is on a file system without locks (flock: "
        f"{os.strerror(number)}), without which two commands would train the same run: set "
        "ADAM_TF_BUILD to a folder on another file system, or mount this one with locks"
    )
    assert "Traceback" not in err
    assert not list(command.records.glob("*"))
    assert not list(command.records.glob(".*"))


def test_a_lock_that_can_not_be_had_leaves_nothing(tmp_path, monkeypatch):
    """What is written elsewhere needs no locks."""

    def none(file, path):
        raise locks.NoLocks(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store, "lock", none)
    with pytest.raises(locks.NoLocks), Store(tmp_path).claim("0" * 16):
        pass
    assert not list(tmp_path.iterdir())
    store.write_atomically(tmp_path / "page", b"content")
    assert (tmp_path / "page").read_bytes() == b"content"


def test_another_fault_of_a_lock_keeps_its_name(tmp_path, monkeypatch):
    import fcntl

    def fault(file, how):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fault)
    with pytest.raises(OSError, match="Input/output error"), Store(tmp_path).claim("0" * 16):
        pass


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_disk_that_fills_up_keeps_what_was_written(command, engine):
    command.change(
        """
        replace = os.replace
        def full(source, target):
            if str(target).endswith(".json") and len(list(Path(target).parent.glob("*.json"))) >= 5:
                raise OSError(28, "No space left on device")
            replace(source, target)
        os.replace = full
        """
    )
    code, _, err = command(*RUN, "--engine", engine)
    assert code == 1
    assert "Traceback" not in err
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith("No space left on device")
    assert 5 <= len(Store(command.records).ids()) <= 6  # two workers may write at once
    command.change()
    check_complete(command)


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                yield
            finally:
                subprocess.run(["umount", str(folder)], check=True)
            return
    pytest.skip("mounting needs privileges")


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=64k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_folder_without_room_or_right_is_found_before_training(command, options, reason):
    with mounted(command.build, options):
        code, _, err = command()
        assert code == 1
        assert last_line(err).startswith("adam-study: cannot write ")
        assert str(command.records) in err
        assert last_line(err).endswith(reason)
        assert err.count("\n") == 3  # the two that say which data
        assert not command.trained()
    check_complete(command)


@pytest.mark.parametrize("place", ["build", "build/records"])
def test_a_file_in_the_place_of_the_folder(command, place):
    path = command.build.parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    code, _, err = command()
    assert code == 1
    assert last_line(err).startswith("adam-study: ")
    assert str(path) in last_line(err)
    assert not command.trained()
    assert path.read_text() == "mine"
    path.unlink()
    check_complete(command)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
def test_a_failed_write_leaves_the_file_and_nothing_else(tmp_path, monkeypatch, function, fault):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise fault

    monkeypatch.setattr(store.os, function, fail)
    with pytest.raises(type(fault)) as caught:
        store.write_atomically(path, b"new")
    if isinstance(fault, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"cannot write {path}: No space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_a_file_is_for_those_who_can_use_its_folder(tmp_path, umask, mode):
    path, before = tmp_path / "made" / "file", os.umask(umask)
    try:
        store.write_atomically(path, b"new")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode

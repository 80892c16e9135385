"""Files are written whole or not at all, and JSON holds finite numbers alone."""

import errno
import os
import stat

import numpy as np
import pytest

from influcoder.errors import StoreError
from influcoder.store.files import atomic_write, sha256, write_json


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_write_and_replace(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_sha256(tmp_path):
    atomic_write(tmp_path / "file", b"abc")
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    atomic_write(path, b"before")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StoreError, match="No space left on device"):
        atomic_write(path, b"after")
    with pytest.raises(StoreError, match="No space left on device"):
        atomic_write(tmp_path / "new", b"after")
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"before"


def test_missing_folder_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        atomic_write(tmp_path / "absent" / "file", b"")


def test_file_in_place_of_the_folder_is_a_store_error(tmp_path):
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        atomic_write(tmp_path / "folder" / "file", b"")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
@pytest.mark.parametrize("wrap", [lambda x: {"a": {"b": x}}, lambda x: {"a": [1, x]}, lambda x: {"a": ({"b": x},)}])
def test_json_refuses_numbers_that_are_not_finite(tmp_path, number, wrap):
    with pytest.raises(StoreError, match="not a finite number"):
        write_json(tmp_path / "file.json", wrap(number))
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [np.float32("nan"), np.array([1.0, np.nan])], ids=["scalar", "array"])
def test_json_refuses_numpy_numbers_that_are_not_finite(tmp_path, value):
    with pytest.raises(StoreError, match="finite"):
        write_json(tmp_path / "file.json", {"a": value})


def test_json_is_sorted_and_the_same_for_the_same_value(tmp_path):
    write_json(tmp_path / "one", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "two", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_text().endswith("}\n")


def fail_to_flush_folders(monkeypatch, number):
    fsync = os.fsync

    def flush(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)


def test_folder_that_cannot_be_flushed_leaves_the_whole_file(tmp_path, monkeypatch):
    fail_to_flush_folders(monkeypatch, errno.EIO)
    with pytest.raises(StoreError, match=os.strerror(errno.EIO)):
        atomic_write(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert names(tmp_path) == ["file"]


def test_file_system_that_does_not_flush_folders_is_written_to(tmp_path, monkeypatch):
    fail_to_flush_folders(monkeypatch, errno.EINVAL)
    atomic_write(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_name_that_is_too_long_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        atomic_write(tmp_path / ("a" * 300), b"")


@pytest.mark.parametrize("value", [{"a": object()}, {"a": 2**70}, {"a": "\ud800"}])
def test_json_refuses_what_it_cannot_hold(tmp_path, value):
    with pytest.raises(StoreError, match=r"file\.json: JSON cannot hold"):
        write_json(tmp_path / "file.json", value)
    assert names(tmp_path) == []


def test_json_of_numpy(tmp_path):
    write_json(tmp_path / "file.json", {"a": np.float32(0.5), "b": np.arange(2), "c": np.array([0.5])})
    assert "".join((tmp_path / "file.json").read_text().split()) == '{"a":0.5,"b":[0,1],"c":[0.5]}'


def test_sha256_of_a_missing_file(tmp_path):
    with pytest.raises(StoreError, match="absent: cannot be read"):
        sha256(tmp_path / "absent")

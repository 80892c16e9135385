import errno
import os
import shutil
import stat
import subprocess
import sys

import filelock
import numpy as np
import pytest

from influcoder.errors import ConfigError, StoreError
from influcoder.store.files import atomic_write, sha256, write_json
from influcoder.store.output_folder import claim

HOLDER = """
import sys
from pathlib import Path
from influcoder.store.files import claim
with claim(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    sys.stdin.read()
"""


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


def test_claim_makes_the_folder_and_leaves_no_lock(tmp_path):
    folder = tmp_path / "a" / "b"
    with claim(folder) as held:
        assert held == folder
        (folder / "x").write_bytes(b"")
    assert names(folder) == ["x"]


def test_claim_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(StoreError, match=r"not empty.*--resume.*--overwrite"), claim(tmp_path):
        pass
    assert names(tmp_path) == ["x"]


def test_claim_resume_keeps_what_is_there_but_for_half_written_files(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("x", "x.tmp-123", "deep/y", "deep/y.tmp-9"):
        (tmp_path / name).write_bytes(b"")
    with claim(tmp_path, resume=True):
        assert (tmp_path / "x").exists()
    assert names(tmp_path) == ["deep", "x"]
    assert names(tmp_path / "deep") == ["y"]


def test_claim_overwrite_empties_the_folder_and_nothing_else(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "x").write_bytes(b"")
    (folder / "y").write_bytes(b"")
    (folder / "link").symlink_to(outside)
    with claim(folder, overwrite=True):
        assert names(folder) in ([], [".lock"])
    assert names(outside) == ["kept"]


@pytest.mark.parametrize("inputs", ["folder", "folder/deep/x", ".", "link", "link/deep"])
def test_claim_does_not_empty_what_is_read(tmp_path, inputs):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "x").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with (
        pytest.raises(ConfigError, match=r"folder: the output folder is, holds or lies in the input"),
        claim(tmp_path / "folder", overwrite=True, inputs=[tmp_path / "other", tmp_path / inputs]),
    ):
        pass
    assert names(tmp_path / "folder" / "deep") == ["x"]


def test_claim_of_a_link_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with (
        pytest.raises(StoreError, match="cannot be used as output folder"),
        claim(tmp_path / "loop", inputs=[tmp_path / "x"]),
    ):
        pass


def test_claim_resumes_beside_what_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    with claim(tmp_path / "out", resume=True, inputs=[tmp_path, tmp_path / "outer"]):
        pass
    with pytest.raises(ConfigError, match="input"), claim(tmp_path / "out", resume=True, inputs=[tmp_path / "out"]):
        pass


def test_claim_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="mine"), claim(tmp_path):
        raise ValueError("mine")
    with claim(tmp_path):
        pass


def test_claim_refuses_a_second_writer(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for choice in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(StoreError, match="another run is writing"), claim(tmp_path, **choice):
                pass
        other.communicate("")
    with claim(tmp_path, resume=True):
        pass


def test_claim_after_a_killed_writer(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
    with claim(tmp_path):
        pass


def test_claim_given_back_leaves_the_next_writers_lock_alone(tmp_path, monkeypatch):
    release, next_writer = filelock.FileLock.release, filelock.FileLock(tmp_path / ".lock", timeout=0)

    def release_and_be_overtaken(lock, force=False):
        release(lock, force)
        if lock is not next_writer:
            next_writer.acquire()

    with monkeypatch.context() as patched:
        patched.setattr(filelock.FileLock, "release", release_and_be_overtaken)
        with claim(tmp_path):
            pass
    with pytest.raises(StoreError, match="another run is writing"), claim(tmp_path, resume=True):
        pass
    next_writer.release()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_claim_of_a_path_that_is_a_file(tmp_path, below):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be used as output folder"), claim(tmp_path / "file" / below):
        pass


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


def test_claim_of_a_folder_that_cannot_be_emptied(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with (
        pytest.raises(StoreError, match=r"deep: cannot be removed.*Permission denied"),
        claim(tmp_path, overwrite=True),
    ):
        pass
    assert names(tmp_path) == ["deep"]

"""An output folder has one writer, and nothing in it is lost that was not given up."""

import errno
import shutil
import subprocess
import sys

import filelock
import pytest

from influcoder.errors import ConfigError, StoreError
from influcoder.store.output_folder import claim

HOLDER = """
import sys
from pathlib import Path
from influcoder.store.output_folder import claim
with claim(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


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

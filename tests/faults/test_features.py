"""What may befall `features`: a full disk, a disk that refuses, damage, a second run, signals.

Kills are in `tests/runners/` and `scripts/measure/kills.py`; a resumed run with other settings,
data or model in `tests/teachers/test_write.py`.
"""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers import forks
from helpers.folders import contents
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder.errors import InflucoderError, StoreCorrupt, StoreError
from influcoder.model.decoder import Decoder
from influcoder.store import disk_space as room
from influcoder.store.output_folder import Folder, claim
from influcoder.store.store import Store
from influcoder.student import decoder_tables
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers import write as writing
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import features as feature_verbs
from influcoder.verbs.distill import distill

SETTINGS = TeacherSettings.named("logra", rank=4, width=512, precision="fp32", fit_examples=16)
QUERIES, POOL = sentences(16, 1, "q"), sentences(60, 2, "p")


@pytest.fixture(scope="module")
def model(tmp_path_factory, tokenizer):
    return save_decoder(tmp_path_factory.mktemp("model"), tokenizer)


@pytest.fixture(scope="module")
def decoder(model):
    return Decoder.load(model, device="cpu", max_length=64)


@pytest.fixture
def make(decoder, monkeypatch):
    """Writes features in shards of 16 rows, without the check before them."""
    monkeypatch.setattr(writing, "SHARD_ROWS", 16)
    monkeypatch.setattr(feature_verbs, "check_teacher", lambda *_, **__: {})
    return lambda folder, **flags: feature_verbs.features(decoder, QUERIES, POOL, Folder(folder, **flags), SETTINGS)


@pytest.fixture(scope="module")
def calm(decoder, tmp_path_factory):
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("calm") / "features"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "SHARD_ROWS", 16)
        patch.setattr(feature_verbs, "check_teacher", lambda *_, **__: {})
        feature_verbs.features(decoder, QUERIES, POOL, Folder(folder), SETTINGS)
    return folder


def nothing_half_is_read_as_whole(folder):
    """Neither a store nor a student is made of what a stopped run has left."""
    assert list(folder.rglob("*.tmp-*")) == []
    for side in ("queries", "pool"):
        if (folder / side / "manifest.json").exists():
            Store(folder / side)  # every hash is checked
    with pytest.raises(InflucoderError, match=r"--resume|not a store"):
        distill(FeaturesFolder(folder), Folder(folder.parent / "encoder"))


# A full disk


def test_what_the_disk_cannot_hold_is_refused_before_the_first_pass(make, tmp_path, monkeypatch):
    def passed(*_):
        raise AssertionError("the model was run")

    monkeypatch.setattr(feature_verbs, "check_teacher", passed)
    monkeypatch.setattr(room, "free_bytes", lambda _: 99_000)
    with pytest.raises(
        StoreError, match=r"features: about \d+\.\d kB are to be written, 99\.0 kB are free\. Make room"
    ):
        make(tmp_path / "features")
    assert list((tmp_path / "features").iterdir()) == []


def test_the_estimate_is_near_what_is_written(calm, make, monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(feature_verbs, "refuse_full_disk", lambda _, needed: told.append(needed))
    make(tmp_path / "features")
    shutil.copytree(calm, tmp_path / "again")
    make(tmp_path / "again", resume=True)
    written = room.held_bytes(calm)
    assert 0.6 * written < told[0] < 1.2 * written
    assert told[1] < 0.3 * written  # what is there is not written again


class Full:
    """Lets a function of `os` work some times, and then meet a full disk."""

    def __init__(self, function, times):
        self.function, self.times = function, times

    def __call__(self, *arguments):
        self.times -= 1
        if self.times < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.function(*arguments)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("times", [0, 2, 5, 9, 13])
def test_disk_that_fills_up_at_flushing_and_renaming(make, calm, tmp_path, monkeypatch, step, times):
    folder = tmp_path / "features"
    with monkeypatch.context() as patch:
        patch.setattr(os, step, Full(getattr(os, step), times))
        with pytest.raises(StoreError, match="No space left on device"):
            make(folder)
    nothing_half_is_read_as_whole(folder)
    make(folder, resume=True)
    assert contents(folder) == contents(calm)


def mount(folder, *options):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() or not mount(folder, "size=60k"):
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk(make, calm, disk, monkeypatch):
    with pytest.raises(StoreError, match=r"are to be written, 61\.4 kB are free"):
        make(disk / "features")
    monkeypatch.setattr(feature_verbs, "refuse_full_disk", lambda *_: None)  # as when others fill it meanwhile
    for size in range(60, room.held_bytes(calm) // 1000, 24):
        assert mount(disk, "remount", f"size={size}k")
        with pytest.raises(StoreError, match=r"No space left on device"):
            make(disk / "features", resume=True)
        nothing_half_is_read_as_whole(disk / "features")
    assert mount(disk, "remount", "size=2m")
    make(disk / "features", resume=True)
    assert contents(disk / "features") == contents(calm)


# A disk that refuses


def test_read_only_disk(make, calm, disk):
    assert mount(disk, "remount", "size=2m")
    shutil.copytree(calm, disk / "features")
    (disk / "features" / "pool" / "manifest.json").unlink()
    assert mount(disk, "remount", "ro")
    for folder in (disk / "features", disk / "new"):
        with pytest.raises(StoreError, match="cannot be used as output folder: Read-only file system"):
            make(folder, resume=True)


def test_folder_that_may_not_be_written(make, tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreError, match=r"cannot be used as output folder: Permission denied\. Choose another"):
        make(tmp_path / "features")


def test_second_run_in_one_folder(make, tmp_path):
    with claim(tmp_path / "features"), pytest.raises(StoreError, match="another run is writing here"):
        make(tmp_path / "features", resume=True)


# Damage


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


KINDS = [
    "pool/manifest.json",
    "pool/shard-00001.safetensors",
    "queries/shard-00000.parquet",
    "teacher.safetensors",
    "tables.json",
    "expected.safetensors",
    "backbone/model.safetensors",
    "backbone/tokenizer.json",
    "backbone/modules.json",
]


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 1])
@pytest.mark.parametrize("name", KINDS)
def test_flipped_bit_in_each_kind_of_file(calm, tmp_path, name, place):
    folder = shutil.copytree(calm, tmp_path / "features")
    flip(folder / name, place)
    with pytest.raises(StoreError) as caught:
        distill(FeaturesFolder(folder), Folder(tmp_path / "encoder"))
    assert isinstance(caught.value, StoreCorrupt) or name == "pool/manifest.json"
    assert Path(name).name in str(caught.value) or name == "tables.json"
    assert not (tmp_path / "encoder").exists()


def test_every_kind_of_file_is_tried(calm):
    kinds = {(Path(name).parts[0] in ("pool", "queries"), Path(name).name[:9], Path(name).suffix) for name in KINDS}
    known = kinds | {(False, "metrics.j", ".json"), (False, "config_se", ".json")}  # read by people; covered by tables
    found = {path.relative_to(calm) for path in calm.rglob("*") if path.is_file()}
    assert {(path.parts[0] in ("pool", "queries"), path.name[:9], path.suffix) for path in found} <= known


@pytest.mark.parametrize("name", ["backbone/tokenizer.json", "expected.safetensors"])
def test_damaged_tables_are_mended_by_resuming(make, calm, tmp_path, name):
    folder = shutil.copytree(calm, tmp_path / "features")
    flip(folder / name, 0.5)
    with pytest.raises(StoreCorrupt, match=r"Run `influcoder features` again with --resume"):
        decoder_tables.check_decoder_tables(folder)
    make(folder, resume=True)
    assert contents(folder) == contents(calm)


# Signals


@pytest.fixture(scope="module")
def job(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("job")
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(16, 1, "q")))
    write_jsonl(folder / "a pool.jsonl", as_rows(sentences(500, 2, "p")))
    files = ["--queries", "queries.jsonl", "--pool", "a pool.jsonl"]
    return folder, [
        "features",
        "--decoder",
        model,
        *files,
        "--rank",
        "4",
        "--width",
        "512",
        "--precision",
        "fp32",
    ]


def stopped(job, number, *more):
    """What a run prints at its end that gets a signal once its first shard is there, and its output folder."""
    folder, words = job
    output = folder / f"out {number}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [*map(str, words), *more, "--output-dir", output.name]
    process = forks.Fork(forks.command, *words, cwd=folder, env=environment)
    begin = time.monotonic()
    while not (output / "queries/shard-00000.parquet").exists() and time.monotonic() - begin < 300:
        time.sleep(0.002)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert not (output / "pool" / "manifest.json").exists()
    _, alive = psutil.wait_procs(workers, timeout=60)  # they see that it has ended, and end
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert "Traceback" not in err
    told = err.splitlines()[-1]
    assert told.startswith("error: stopped. Resume with: influcoder features ")
    return shlex.split(told.split("with: ")[1]), output


def test_interrupted_run_tells_the_command_that_goes_on(job):
    folder, words = job
    again, output = stopped(job, signal.SIGINT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for command in (again[1:], [*words, "--output-dir", "calm"]):
        done = forks.run(forks.command, *map(str, command), cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr
    ours, calm = contents(output), contents(folder / "calm")
    del ours["config.toml"], calm["config.toml"]
    assert ours == calm


def test_terminated_run_ends_its_workers(job):
    again, _ = stopped(job, signal.SIGTERM, "--workers", "2")
    assert again[-5:] == ["--workers", "2", "--output-dir", "out 15", "--resume"]

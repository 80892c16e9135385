"""Runners: every task once, whoever does it; workers that die, hang, break or cannot start."""

import multiprocessing
import re
import shutil
import signal
import sys
import threading
import time
from functools import partial

import psutil
import pytest

from helpers.folders import contents
from helpers.jobs import ROWS, Files
from helpers.processes import start
from helpers.tiny import save_decoder, some_examples, tiny_decoder
from helpers.written_features import write_both_sides
from influcoder.errors import ConfigError, DataError, MissingDependency, StoreMismatch, WorkerError
from influcoder.model.decoder import Decoder
from influcoder.runners.actors import RayActors
from influcoder.runners.crew import TRIES
from influcoder.runners.processes import Processes, cores
from influcoder.runners.runner import InProcess


@pytest.fixture
def rows():
    """Counts what is advanced."""

    class Rows(list):
        def __call__(self, number):
            self.append(number)

    return Rows()


@pytest.mark.parametrize("runner", [InProcess(), Processes(1), Processes(3)], ids=["here", "one", "three"])
def test_every_task_is_done_once(tmp_path, rows, runner):
    job = Files(tmp_path)
    assert runner.run(job, iter(range(8)), rows) == []
    assert job.done() == set(range(8))
    assert [job.tries(number) for number in range(8)] == [1] * 8
    assert sum(rows) == 8 * ROWS
    assert 1 <= len(job.workers()) <= getattr(runner, "workers", 1)


def test_nothing_to_do_starts_no_worker(tmp_path, rows):
    assert Processes(2).run(Files(tmp_path), [], rows) == []
    assert Files(tmp_path).workers() == {}


def test_cores_are_divided(tmp_path, rows, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = Files(tmp_path)
    Processes(1).run(job, range(2), rows)
    assert set(job.workers().values()) == {str(cores())}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    Processes(1).run(job, range(2), rows)
    assert set(job.workers().values()) == {"7"}


def test_task_of_a_killed_worker_is_done_again(tmp_path, rows):
    job = Files(tmp_path, {2: ("killed", 1), 4: ("killed", TRIES - 1)})
    assert Processes(2).run(job, range(6), rows) == []
    assert job.done() == set(range(6))
    assert (job.tries(2), job.tries(4)) == (2, TRIES)
    assert sum(rows) == 6 * ROWS
    assert min(rows) == 1 - ROWS  # what the killed one had told is taken back


def test_task_that_kills_every_worker_is_given_up_and_the_rest_done(tmp_path, rows):
    job = Files(tmp_path, {1: ("killed", 99)})
    (failed,) = Processes(2).run(job, range(6), rows)
    assert (failed.task, failed.why) == (1, "it was ended by SIGKILL, as when memory runs out")
    assert job.tries(1) == TRIES
    assert job.done() == set(range(6)) - {1}
    assert sum(rows) == 5 * ROWS


def test_hanging_worker_is_replaced(tmp_path, rows):
    job = Files(tmp_path, {0: ("hangs", 1)})
    assert Processes(1, timeout_s=0.3).run(job, range(2), rows) == []
    assert job.done() == {0, 1}
    (failed,) = Processes(1, timeout_s=0.1).run(Files(tmp_path, {5: ("hangs", 99)}), [5], rows)
    assert failed.why == "it did no row in 0.1 s"


def test_fault_of_the_program_costs_its_task_alone(tmp_path, rows, capfd):
    (failed,) = Processes(1).run(Files(tmp_path, {0: ("breaks", 99)}), range(3), rows)
    assert failed.why == "it ended with exit status 1, its error is above"
    assert "a fault of the program" in capfd.readouterr().err
    assert Files(tmp_path).done() == {1, 2}


@pytest.mark.parametrize("what", ["make", 1])
def test_our_own_errors_end_the_run_as_here(tmp_path, rows, what):
    job = Files(tmp_path, {what: ("refuses", 99), 0: ("hangs", 99)})
    begin = time.monotonic()
    with pytest.raises(DataError, match="row 3: bad"):
        Processes(2).run(job, range(3), rows)
    assert time.monotonic() - begin < 30  # the hanging one was not waited for
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start(tmp_path, rows):
    with pytest.raises(WorkerError, match=rf"cannot start: it was ended by SIGKILL.*, {TRIES} times.*fewer --workers"):
        Processes(1).run(Files(tmp_path, {"make": ("killed", 99)}), range(3), rows)
    assert Files(tmp_path).tries("make") == TRIES


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=re.escape("pip install 'influcoder[ray]'")):
        RayActors()


def test_no_workers():
    with pytest.raises(ConfigError, match="--workers is 0, expected at least 1"):
        Processes(0)


MAIN = """
import sys
from pathlib import Path
from helpers.jobs import Files
from influcoder.runners.processes import Processes
job = Files(Path(sys.argv[1]), {number: ("hangs", 99) for number in range(2)})
if __name__ == "__main__":
    print("started", flush=True)
    Processes(2).run(job, range(2), lambda rows: None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, number):
    job = Files(tmp_path)
    with start(MAIN, tmp_path) as parent:
        begin = time.monotonic()
        while len(job.workers()) < 2 and time.monotonic() - begin < 120:
            time.sleep(0.01)
        parent.send_signal(number)
        parent.wait(timeout=120)
    begin = time.monotonic()
    while any(psutil.pid_exists(worker) for worker in job.workers()) and time.monotonic() - begin < 120:
        time.sleep(0.01)
    assert [worker for worker in job.workers() if psutil.pid_exists(worker)] == []


# The features job


@pytest.fixture(scope="module")
def model(tmp_path_factory, tokenizer):
    return save_decoder(tmp_path_factory.mktemp("model"), tokenizer)


@pytest.fixture
def write(model, forked_workers, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return partial(write_both_sides, model)


def kill_a_worker(folder, shard):
    """Kill a worker of this process as soon as a shard is there."""
    begin = time.monotonic()
    while not (folder / shard).exists() and time.monotonic() - begin < 60:
        time.sleep(0.001)
    multiprocessing.active_children()[-1].kill()


def test_killed_worker_leaves_the_bytes_of_one_process(write, tmp_path):
    write(tmp_path / "alone", InProcess())
    folder = tmp_path / "shared"
    killer = threading.Thread(target=kill_a_worker, args=(folder, "queries/shard-00000.safetensors"))
    killer.start()
    written = write(folder, Processes(2))
    killer.join()
    assert [len(store) for store in written] == [12, 40]
    assert contents(folder) == contents(tmp_path / "alone")


class Killed(InProcess):
    """Gives up some tasks, as a crew does whose workers die of them."""

    def run(self, job, tasks, advance):
        from influcoder.runners.runner import Failed

        work = job.make()
        for task in tasks:
            if task.shard.number != 1:
                work(task, advance)
        (job.writers["pool"].folder / "shard-00001.parquet.tmp-77").touch()
        return [Failed(task, "it was ended by SIGKILL") for task in tasks if task.shard.number == 1]


def test_shards_that_were_given_up_are_named_and_the_rest_kept(write, tmp_path):
    with pytest.raises(
        WorkerError, match=r"2 of 7 shards were given up.*queries/shard-00001: it was.*; .*pool/shard-00001"
    ):
        write(tmp_path / "some", Killed())
    there = sorted(path.name for path in (tmp_path / "some" / "pool").iterdir())
    assert "manifest.json" not in there
    assert len(there) == 1 + 4 * 2
    write(tmp_path / "alone", InProcess())
    write(tmp_path / "some", InProcess())
    assert contents(tmp_path / "some") == contents(tmp_path / "alone")


def test_worker_with_other_weights_is_refused(write, model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "model")
    decoder = Decoder.load(copy, device="cpu", max_length=64)
    tiny_decoder("llama", decoder.tokenizer, seed=5).model.save_pretrained(copy)
    with pytest.raises(StoreMismatch, match=r"the worker on .* has another teacher: decoder\.decoder: "):
        write(tmp_path / "features", Processes(1), decoder)


def test_decoder_made_in_memory_does_not_travel(write, decoder, tmp_path):
    with pytest.raises(ConfigError, match="tiny-llama was made in memory"):
        write(tmp_path / "features", Processes(1), decoder)


def test_decoder_is_loaded_again_as_it_was(model, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    decoder = Decoder.load(model.name, device="cpu", max_length=33)
    monkeypatch.chdir(tmp_path)
    again = decoder.load_again()
    assert again.fingerprint == decoder.fingerprint
    assert again.max_length == 33
    assert [one.ids.tolist() for one in again.tokenise(some_examples())] == [
        one.ids.tolist() for one in decoder.tokenise(some_examples())
    ]

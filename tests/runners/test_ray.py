"""Actors of a real local Ray cluster of two CPUs: the same promises as of worker processes."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

import influcoder
from helpers.folders import contents
from helpers.jobs import ROWS, Files
from helpers.tiny import save_decoder
from helpers.tiny_encoders import index_sentences, save_encoder
from helpers.written_features import write_both_sides
from influcoder.errors import ConfigError, DataError
from influcoder.runners.actors import RayActors
from influcoder.runners.crew import TRIES
from influcoder.runners.runner import InProcess

ray = pytest.importorskip("ray")
PATH = os.pathsep.join([str(Path(influcoder.__file__).parents[1]), str(Path(__file__).parents[1])])


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Ray's own is 15: beside other work, minutes for a second's task.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": PATH}},
    )
    yield
    ray.shutdown()


def test_every_task_is_done_once_by_as_many_actors_as_there_are_cpus(tmp_path):
    runner, rows, job = RayActors(), [], Files(tmp_path)
    assert runner.workers == 2
    assert runner.run(job, iter(range(6)), rows.append) == []
    assert job.done() == set(range(6))
    assert rows == [ROWS] * 6
    assert 1 <= len(job.workers()) <= 2
    assert os.getpid() not in job.workers()
    assert set(job.workers().values()) == {"1"}  # threads


def test_killed_actor_costs_its_task_one_more_try(tmp_path):
    job, rows = Files(tmp_path, {0: ("killed", 99), 2: ("killed", 1), 3: ("breaks", 99)}), []
    failed = RayActors(workers=2).run(job, range(5), rows.append)
    assert {one.task: one.why for one in failed} == {
        0: "it died (ActorDiedError), as when memory runs out",
        3: "its work failed with ZeroDivisionError('a fault of the program')",
    }
    assert (job.tries(0), job.tries(2), job.tries(3)) == (TRIES, 2, TRIES)
    assert job.done() == {1, 2, 4}
    assert sum(rows) == 3 * ROWS


def test_hanging_actor_and_errors_of_our_own(tmp_path):
    job = Files(tmp_path, {0: ("hangs", 1), 1: ("refuses", 1)})
    with pytest.raises(DataError, match="row 3: bad"):
        RayActors(workers=1, timeout_s=1).run(job, range(3), lambda _: None)
    assert job.done() == {0}  # the second try


def test_more_actors_than_cpus_are_refused_at_the_start():
    with pytest.raises(ConfigError, match=r"--workers is 3, the Ray cluster has 2 CPUs: .*Give 1 to 2"):
        RayActors(workers=3)
    with pytest.raises(ConfigError, match="--workers is 0"):
        RayActors(workers=0)


def test_a_cluster_with_gpus_has_room_for_one_actor_each(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": 4.0})
    assert RayActors().workers == 4
    with pytest.raises(ConfigError, match="--workers is 5, the Ray cluster has 4 GPUs"):
        RayActors(workers=5)


def kill_an_actor(shard):
    """Kill an actor as soon as a shard is there."""
    begin = time.monotonic()
    while not shard.exists() and time.monotonic() - begin < 60:
        time.sleep(0.001)
    actors = [one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::_Actor")]
    actors[0].kill()


def test_features_with_an_actor_killed_are_the_bytes_of_one_process(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = save_decoder(tmp_path / "model", tokenizer)
    write_both_sides(model, tmp_path / "alone", InProcess())
    killer = threading.Thread(target=kill_an_actor, args=(tmp_path / "shared/queries/shard-00000.safetensors",))
    killer.start()
    written = write_both_sides(model, tmp_path / "shared", RayActors(workers=2))
    killer.join()
    assert [len(store) for store in written] == [12, 40]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_index_with_an_actor_killed_is_the_bytes_of_one_process(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    encoder, _ = save_encoder(tmp_path, tokenizer)
    index_sentences(encoder, tmp_path / "alone", InProcess())
    killer = threading.Thread(target=kill_an_actor, args=(tmp_path / "shared/shard-00001.safetensors",))
    killer.start()
    store = index_sentences(encoder, tmp_path / "shared", RayActors(workers=2))
    killer.join()
    assert len(store) == 60
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_no_cluster_at_an_address(monkeypatch):
    def nobody(**_):
        raise ConnectionError("Could not find any running Ray instance.\nMore.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(
        ConfigError, match=r"no Ray cluster at 'auto': Could not .* instance\. Start one with `ray start"
    ):
        RayActors()

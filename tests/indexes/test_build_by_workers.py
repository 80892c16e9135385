"""An index made by workers is, to the byte, the one that a single process makes."""

import dataclasses
import multiprocessing
import pickle
import threading
import time

import pytest

from helpers.folders import contents
from helpers.given_vectors import Hashed
from helpers.tiny_encoders import index_sentences, save_encoder
from influcoder.errors import ConfigError, StoreMismatch, WorkerError
from influcoder.indexes.build import IndexJob, parts_of
from influcoder.indexes.index import Index
from influcoder.runners.processes import Processes
from influcoder.runners.runner import Failed, InProcess
from influcoder.student.encoder import InfluenceEncoder

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    return save_encoder(tmp_path_factory.mktemp("static"), tokenizer)[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def test_killed_worker_leaves_the_bytes_of_one_process(encoder, tmp_path):
    def kill_a_worker():
        while not (tmp_path / "shared/shard-00001.safetensors").exists():
            time.sleep(0.001)
        multiprocessing.active_children()[-1].kill()

    index_sentences(encoder, tmp_path / "alone", InProcess())
    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    store = index_sentences(encoder, tmp_path / "shared", Processes(2))
    killer.join()
    assert len(store) == 60
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert len(Index(tmp_path / "shared").ids) == 60


def test_workers_go_on_where_a_run_stopped(encoder, tmp_path):
    index_sentences(encoder, tmp_path / "index", InProcess())
    before = contents(tmp_path / "index")
    for name in ("manifest.json", "shard-00003.parquet", "shard-00007.safetensors"):
        (tmp_path / "index" / name).unlink()
    index_sentences(encoder, tmp_path / "index", Processes(1))
    assert contents(tmp_path / "index") == before


def test_workers_of_a_tier_that_runs_the_decoder(tmp_path, tokenizer):
    encoder, decoder = save_encoder(tmp_path, tokenizer, "short")
    for folder, runner in (("alone", InProcess()), ("shared", Processes(1))):
        index_sentences(encoder, tmp_path / folder, runner, decoder)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_what_was_made_in_memory_does_not_travel(encoder, tmp_path, tokenizer):
    loaded = InfluenceEncoder.load(encoder)
    loaded.folder = None
    with pytest.raises(ConfigError, match=r"encoder was made in memory.*InfluenceEncoder\.load"):
        index_sentences(loaded, tmp_path / "index", Processes(1))
    short, decoder = save_encoder(tmp_path, tokenizer, "short")
    decoder._load_again = None
    with pytest.raises(ConfigError, match=r"was made in memory.*Decoder\.load"):
        index_sentences(short, tmp_path / "other", Processes(1), decoder)


def test_worker_with_another_encoder_is_refused(encoder):
    job = pickle.loads(pickle.dumps(IndexJob(InfluenceEncoder.load(encoder), None)))
    assert pickle.loads(pickle.dumps(job)) == job  # handed on as it is
    other = dataclasses.replace(job.encoder, fingerprint="0" * 64)
    with pytest.raises(StoreMismatch, match=r"has another encoder: encoder: '0{64}' there, '.*Give all machines"):
        IndexJob(other, None).make()


def test_shards_that_were_given_up_are_named(tmp_path):
    class GivesUp:
        def run(self, job, tasks, advance):
            first, *rest = tasks
            InProcess().run(job, rest, advance)
            return [Failed(first, "it was ended by SIGKILL")]

    with pytest.raises(WorkerError, match=r"1 shards were given up .*index/shard-00000: it was ended .*--resume"):
        index_sentences(Hashed(), tmp_path / "index", GivesUp())
    assert (tmp_path / "index/shard-00001.safetensors").exists()
    assert not (tmp_path / "index/manifest.json").exists()
    assert len(index_sentences(Hashed(), tmp_path / "index", InProcess())) == 60


def test_parts():
    assert list(parts_of(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(parts_of([], 2)) == []

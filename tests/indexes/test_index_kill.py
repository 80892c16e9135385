"""Processes that make and change an index are killed at random moments; an index is whole at every one of them."""

import contextlib
import os
import random
import signal
import time

import pytest

from helpers.folders import contents
from helpers.given_vectors import ROWS, holds, pool
from helpers.processes import start
from influcoder.errors import StoreError, StoreIncomplete
from influcoder.indexes.index import Index
from influcoder.store.store import Store

# Everything is loaded once; every run is a process forked from there.
WORK = """
import os, sys, time
from pathlib import Path
from helpers import given_vectors
from influcoder.store import files
from influcoder.store.output_folder import claim
from influcoder.verbs import index as index_verbs

class Slow(given_vectors.Hashed):
    def encode_pool(self, examples):
        time.sleep(0.02)
        return super().encode_pool(examples)

replace = os.replace
files.os.replace = lambda *names: (time.sleep(0.002), replace(*names), time.sleep(0.002))
index_verbs.Index.encoder = Slow()

def work(what, folder):
    match what:
        case "build":
            with claim(folder, resume=True):
                given_vectors.build(folder, encoder=Slow())
        case "add":
            index_verbs.change_index(folder, add=given_vectors.pool(90, 150))
        case "remove":
            index_verbs.change_index(folder, remove=[f"id-{n}" for n in range(0, 90, 2)])

print("started", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(line.split()[0], Path(line.split()[1]))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runs:
    def __init__(self):
        self.process = start(WORK)

    def _start(self, folder, what):
        print(what, folder, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def finished(self, folder, what):
        self._start(folder, what)
        assert int(self.process.stdout.readline()) == 0

    def killed(self, folder, what, seconds):
        child = self._start(folder, what)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):  # it was done before
            os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline()) == -signal.SIGKILL


@pytest.fixture(scope="module")
def runs():
    found = Runs()
    yield found
    found.process.communicate()


def test_killed_build_is_resumed_to_the_same_bytes(tmp_path, runs):
    runs.finished(tmp_path / "calm", "build")
    moments, kills = random.Random(0), 0
    for _ in range(8):
        kills += runs.killed(tmp_path / "killed", "build", moments.uniform(0, 0.12))
        if not (tmp_path / "killed" / "manifest.json").exists():
            begun = (tmp_path / "killed" / "plan.json").exists()
            with pytest.raises(StoreIncomplete if begun else StoreError):  # a half-made index is not opened
                Index(tmp_path / "killed")
    assert kills >= 3
    runs.finished(tmp_path / "killed", "build")
    names = ("index.faiss", "index.json", "metrics.json")
    assert {name: one for name, one in contents(tmp_path / "killed").items() if name not in names} == {
        name: one for name, one in contents(tmp_path / "calm").items() if name not in names
    }


def test_index_is_as_it_was_or_as_it_will_be_when_a_change_is_killed(tmp_path, runs):
    folder, moments, kills = tmp_path / "index", random.Random(1), 0
    runs.finished(folder, "build")
    states = [pool(), pool(0, 150), [one for n, one in enumerate(pool(0, 150)) if n >= 90 or n % 2]]
    for what, before, after in (("add", states[0], states[1]), ("remove", states[1], states[2])):
        for _ in range(5):
            kills += runs.killed(folder, what, moments.uniform(0, 0.25))
            assert holds(folder, before if len(Store(folder)) == len(before) else after)
        runs.finished(folder, what)
        assert holds(folder, after)
        assert len(list(folder.glob("shard-*"))) == 2 * len(Store(folder).manifest["shards"])
    assert kills >= 4
    assert len(Store(folder)) == ROWS + 50 - 45

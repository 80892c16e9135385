"""A real server process over a tiny index, on a port of its own."""

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from helpers.forks import Fork, command

STARTS = 60


@dataclass
class Served:
    """A service that runs.

    Attributes:
        url: where.
        process: what runs it.
        http: a client of it.
    """

    url: str
    process: Fork
    http: httpx2.Client

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path, body, **options):
        return self.http.post(f"/api/v1/{path}", json=body, **options)

    def get(self, path, **options):
        return self.http.get(f"/api/v1/{path}", **options)


def start(*words, cwd=None, environment=None):
    """The process of `influcoder serve` with some flags, on a free port, and its address."""
    port = () if "--port" in words else ("--port", "0")
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {})
    process = Fork(command, "serve", *map(str, words), *port, cwd=cwd, env=variables)
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stderr.read()
    return process, found[0]


def stop(process):
    """Ends a process as an operator does; its exit status and what it said on stderr."""
    process.terminate()
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@contextmanager
def serving(*words, ready=True, headers=None, **options):
    """A service with some flags, for as long as the block runs."""
    process, url = start(*words, **options)
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=STARTS, trust_env=False) as http:
            if ready:
                wait_until_ready(http)
            yield Served(url, process, http)
    finally:
        if process.poll() is None:
            stop(process)
        process.stdout.close()
        process.stderr.close()


def wait_until_ready(http, seconds=STARTS):
    """Ask until all is loaded."""
    import time

    end = time.monotonic() + seconds
    while http.get("/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def index_of_tagged(folder: Path, encoder: Path, rows: int = 60) -> Path:
    """An index of sentences with metadata to filter by, and a hostile text."""
    from helpers.sentences import as_rows, sentences, write_jsonl
    from influcoder.store.output_folder import Folder
    from influcoder.verbs.index import index
    from influcoder.verbs.opening import open_encoder, stream_rows

    tagged = [
        row | {"genre": ("code", "prose")[number % 2], "length": number}
        for number, row in enumerate(as_rows(sentences(rows, 3, "x")))
    ]
    tagged[0]["completion"] = HOSTILE
    write_jsonl(folder / "pool.jsonl", tagged)
    index(open_encoder(encoder)[0], stream_rows(folder / "pool.jsonl", "pool"), Folder(folder / "index"))
    return folder / "index"


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} \u202eright\u200b \x1b[31mred"

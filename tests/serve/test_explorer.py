"""The explorer in this process: while it loads, with an index in LanceDB, and when too many ask."""

import asyncio
import shutil
import threading

import httpx2
import pytest

import influcoder
from influcoder.errors import ConfigError
from influcoder.indexes.lance import export
from influcoder.serve import rows
from influcoder.serve.app import make_app
from influcoder.serve.explorer import Explorer
from influcoder.serve.problems import Problem
from influcoder.serve.settings import MAX_WAITING, ServeSettings
from influcoder.serve.wire import ScoreRequest, SearchRequest, VerifyRequest
from influcoder.serve.wire_selections import MarkRequest, SelectRequest
from influcoder.serve.worker import Worker
from influcoder.store.output_folder import Folder

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture(scope="module")
def explorer(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lance")
    export(influcoder.Index(made / "index"), str(folder / "db"), Folder(folder / "index"))
    opened = Explorer(ServeSettings(folder / "index", state_dir=folder / "state"))
    opened.load()
    opened.worker.start()
    yield opened
    opened.worker.stop()
    opened.journal.close()


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    opened = Explorer(ServeSettings(made / "index", state_dir=tmp_path_factory.mktemp("state")))
    opened.ready = True
    yield opened
    opened.journal.close()


def test_it_finds_the_same_rows(explorer, made):
    found = asyncio.run(explorer.search(SearchRequest(**ASKED, k=3, where="genre=code")))
    expected = influcoder.search(made / "index", **ASKED, k=3, where="genre=code")
    assert [hit.id for hit in found.proponents] == [hit.example.id for hit in expected]
    assert explorer.provenance().lance
    assert explorer.provenance().filterable == ["genre", "length"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"where": "genre=code,length>=10"},
        {"text": "PARIS rome"},
        {"text": "it's % _"},
        {"text": "paris", "where": "length<30"},
        {"name": "x7"},
        {"name": "nobody' OR 'a'='a"},
    ],
)
def test_pages_of_rows_are_the_same(explorer, whole, asked):
    every = {"where": None, "text": None, "name": None, "offset": 2, "limit": 7} | asked
    every["offset"] = 0 if "name" in asked else 2
    assert rows.page(explorer, **every) == rows.page(whole, **every)


def test_what_scores_every_row_says_where_the_rows_are(explorer):
    with pytest.raises(ConfigError, match="its rows are in LanceDB"):
        asyncio.run(explorer.score(ScoreRequest(**ASKED)))
    with pytest.raises(ConfigError, match="its rows are in LanceDB"):
        rows.original(explorer, 0)


def test_while_it_loads_it_says_so(made, tmp_path):
    app = make_app(ServeSettings(made / "index", state_dir=tmp_path))

    async def ask():
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answers = [await http.get("/readyz"), await http.get("/api/v1/provenance")]
            answers += [await http.post(f"/api/v1/{path}", json=ASKED) for path in ("search", "score", "verify")]
            assert (await http.get("/healthz")).status_code == 200
            return answers

    for answer in asyncio.run(ask()):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["content-security-policy"]
    app.explorer.journal.close()


def test_a_fault_is_a_problem_and_tells_nothing_of_itself(made, tmp_path, monkeypatch):
    app = make_app(ServeSettings(made / "index", state_dir=tmp_path))

    def fault():
        raise RuntimeError("secret of the program")

    app.explorer.ready = True
    monkeypatch.setattr(app.explorer, "provenance", fault)

    async def ask():
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/api/v1/provenance")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text
    app.explorer.journal.close()


def test_more_than_may_wait_are_told_to_come_again():
    worker, began, hold = Worker(), threading.Event(), threading.Event()
    worker.start()

    def first():
        began.set()
        return hold.wait(10)

    async def ask():
        waiting = [asyncio.ensure_future(worker.run(first))]
        assert await asyncio.to_thread(began.wait, 10)
        waiting += [asyncio.ensure_future(worker.run(hold.wait)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await worker.run(hold.wait)
        hold.set()
        assert all(await asyncio.gather(*waiting))
        return refused.value

    problem = asyncio.run(ask())
    worker.stop()
    assert (problem.status, problem.headers["Retry-After"]) == (429, "2")


def test_who_has_gone_is_not_worked_for():
    worker, hold, done = Worker(), threading.Event(), []
    worker.start()

    async def ask():
        first = asyncio.ensure_future(worker.run(hold.wait))
        gone = asyncio.ensure_future(worker.run(lambda: done.append("gone")))
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0)
        hold.set()
        await first
        await worker.run(lambda: done.append("last"))

    asyncio.run(ask())
    worker.stop()
    assert done == ["last"]


def test_those_who_wait_are_served_between_the_steps_of_a_job():
    worker, told = Worker(), []
    began, asked, ended = threading.Event(), threading.Event(), threading.Event()

    def job():
        told.append("step")
        began.set()
        asked.wait(10)
        worker.give_way()
        told.append("step")
        ended.set()

    worker.start()
    worker.add_job(job)
    assert began.wait(10)

    async def ask():
        waiting = asyncio.ensure_future(worker.run(lambda: told.append("answer")))
        await asyncio.sleep(0.1)
        asked.set()
        await waiting

    asyncio.run(ask())
    assert ended.wait(10)
    worker.stop()
    assert told == ["step", "answer", "step"]


def test_an_index_that_is_changed_meanwhile_is_not_asked(made, tmp_path):
    shutil.copytree(made / "index", tmp_path / "index")
    opened = Explorer(ServeSettings(tmp_path / "index"))
    opened.ready = True
    selection = asyncio.run(opened.selections.make(SelectRequest(name="by hand")))
    assert rows.row(opened, 0).row == 0
    influcoder.Index(tmp_path / "index").add([{"id": "new", **ASKED}])
    for ask in (lambda: rows.row(opened, 0), lambda: opened.verify(VerifyRequest(**ASKED))):
        with pytest.raises(Problem, match="Start the service again"):
            ask()
    opened.journal.close()
    again = Explorer(ServeSettings(tmp_path / "index"))
    assert again.selections.answer(selection.id).counts is None
    with pytest.raises(Problem, match="Select again"):
        again.selections.mark(selection.id, MarkRequest(mark="drop", rows=[0]))
    again.journal.close()


def test_the_page_says_that_the_index_has_changed(made, tmp_path):
    shutil.copytree(made / "index", tmp_path / "index")
    app = make_app(ServeSettings(tmp_path / "index"))
    app.explorer.ready = True
    app.explorer.worker.start()
    influcoder.Index(tmp_path / "index").add([{"id": "new", **ASKED}])

    async def ask():
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/api/v1/provenance")).status_code == 503
            return [await http.get("/"), await http.get("/", params=ASKED)]

    for answer, status in zip(asyncio.run(ask()), (200, 503), strict=True):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "index changed" in answer.text
        assert "Start the service again" in answer.text
    app.explorer.worker.stop()
    app.explorer.journal.close()

"""A page whose answer takes a while: its start is sent at once, with the question in it."""

import asyncio
from types import SimpleNamespace

import pytest
from fastapi.responses import StreamingResponse
from starlette.datastructures import QueryParams

from influcoder.errors import ModelError
from influcoder.serve import page
from influcoder.serve.problems import Problem
from influcoder.serve.view.address import Address

ADDRESS = Address(prompt="Who wrote <it>?", completion="She did")


@pytest.fixture
def screen():
    explorer = SimpleNamespace(ready=True, settings=SimpleNamespace(request_timeout=0.2))
    frame = {
        "address": ADDRESS,
        "asked": ADDRESS,
        "loading": None,
        "index_name": "i",
        "saved": [],
        "rows": 3,
        "views": {},
    }
    return SimpleNamespace(explorer=explorer, frame=lambda address: frame, job=lambda address: None)


def parts_of(screen, shown):
    async def read():
        return [part async for part in page._in_two(screen, ADDRESS, asyncio.ensure_future(shown))]

    return asyncio.run(read())


async def answered():
    return {}


async def refused():
    raise ModelError("m: no gradient can be taken. Use another teacher.")


def test_the_start_comes_before_the_answer(screen):
    async def first():
        task = asyncio.ensure_future(asyncio.sleep(60))
        parts = page._in_two(screen, ADDRESS, task)
        start = await anext(parts)
        assert not task.done()
        await parts.aclose()
        await asyncio.sleep(0)
        assert task.cancelled()  # nobody waits for it any more
        return start

    start = asyncio.run(first())
    assert "Who wrote &lt;it&gt;?</textarea>" in start
    assert "</form>" in start
    assert "</main>" not in start


def test_the_two_parts_are_the_page(screen):
    whole = page.TEMPLATES.get_template("page.html").render(screen.frame(ADDRESS) | {"job": None})
    assert "".join(parts_of(screen, answered())).split() == whole.split()


@pytest.mark.parametrize(
    ("shown", "said"),
    [(refused, "no gradient can be taken"), (lambda: asyncio.sleep(60), "not answered within 0.2 s")],
)
def test_what_goes_wrong_later_is_said_on_the_page(screen, shown, said):
    _, rest = parts_of(screen, shown())
    assert said in rest
    assert rest.rstrip().endswith("</html>")


@pytest.mark.parametrize(("seconds", "status"), [(0, 422), (0.1, 200)])
def test_what_is_known_at_once_has_its_status(screen, monkeypatch, seconds, status):
    async def shown(*_):
        await asyncio.sleep(seconds)
        raise Problem(422, "no_completion", "the completion is empty.")

    async def answer():
        response = await page._page_at(request, "page.html", None)
        streamed = isinstance(response, StreamingResponse)
        text = "".join([part async for part in response.body_iterator]) if streamed else response.body.decode()
        return response.status_code, text

    monkeypatch.setattr(page, "_shown", shown)
    state = SimpleNamespace(screen=screen)
    request = SimpleNamespace(app=SimpleNamespace(state=state), query_params=QueryParams("prompt=Who"))
    got, text = asyncio.run(answer())
    assert got == status
    assert "the completion is empty." in text

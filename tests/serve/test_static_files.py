"""Scripts and styles of the page."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from influcoder.serve.static_files import STATIC, router


@pytest.fixture(scope="module")
def site():
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("explorer.js", "text/javascript"), ("htmx.min.js", "text/javascript"), ("icon.svg", "image/svg+xml")],
)
def test_a_file_is_as_it_lies_there(site, name, kind):
    answer = site.get(f"/static/{name}")
    assert answer.content == (STATIC / name).read_bytes()
    assert answer.headers["content-type"].split(";")[0] == kind


def test_a_browser_that_has_it_is_not_sent_it_again(site):
    first = site.get("/static/explorer.js")
    assert first.headers["cache-control"] == "max-age=300"
    again = site.get("/static/explorer.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get("/static/explorer.js", headers={"If-None-Match": '"other"'}).status_code == 200

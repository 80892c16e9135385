"""The app: its routes, and what answers them.

Routes:

    GET  /                      the page (page.py, templates/, static/)
    GET  /static/...            static/, by name (static_files.py)
    GET  /login, POST /login    where the service needs a token: a browser gives it once (login.py)
    GET  /healthz, /readyz      whether the process is alive, and whether all is loaded (503 until then)
    GET  /api/v1/openapi.json   the API's description
    POST /api/v1/question       a question with its completion, and what the decoder reads of it
    POST /api/v1/search         both sides of a question
    POST /api/v1/score          the scores of all rows: spread, of some rows, a page in their order
    POST /api/v1/tokens         which tokens carry the influence of some rows
    POST /api/v1/verify         start a re-check with real gradients: a job
    GET  /api/v1/jobs[/ID]      jobs, with progress and result; DELETE stops one; /events are server-sent
    GET  /api/v1/rows[/ROW]     a page of rows, by filter, text or id; one row; /original as its file has it
    GET  /api/v1/queries        saved questions; POST saves one, DELETE /queries/ID removes it
    GET  /api/v1/selections     every selection; POST makes one; /ID shows it, DELETE removes it
         .../selections/ID/...  POST marks, POST undo, PUT rule, GET rows, recipe, questions, export
    GET  /api/v1/provenance     what is served, and what made it

What a page handler gets: `request.app.state.explorer`, the `Explorer` (explorer.py). Its methods take and give the
models of wire.py, so a page shows what the API sends: `await explorer.search(SearchRequest(prompt=..., k=10))` gives a
`SearchAnswer`; in the same way `explorer.read`, `score`, `tokens`, `verify` (a `Job`: `.answer()`, `.id`),
`provenance`. `await explorer.prepared(question)` has the question's vector, `await explorer.scores(question)` the
(rows,) scores; `explorer.selections` makes, marks, undoes and shows selections; `rows.page(explorer, ...)`, `rows.row`
and `rows.original` give the pool's rows. Other long work goes to `await explorer.worker.run(function)`; handlers that
read files are a plain `def`. Errors are `Problem`
(problems.py: status, kind, detail, headers) or an `InflucoderError`, which `Problem.of(error)` turns into one. Hidden
characters of training text are written out by the template filter `visible`.

Scripts and styles are files under /static/: the content policy (safety.py) allows nothing inline, neither scripts nor
styles nor `on...` attributes. htmx needs `<meta name="htmx-config" content='{"includeIndicatorStyles": false,
"allowEval": false}'>`. Requests that change something are refused where the browser's own Sec-Fetch-Site or Origin
names another site, so a form or htmx needs no token of its own. `await form_of(request)` (forms.py) reads its fields.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from influcoder.serve import health, login, page, static_files
from influcoder.serve.api import asking, jobs, questions, rows, selections
from influcoder.serve.api.served import PROBLEMS
from influcoder.serve.explorer import Explorer
from influcoder.serve.problems import answer_errors
from influcoder.serve.safety import Safety
from influcoder.serve.settings import ServeSettings
from influcoder.serve.view.screen import Screen
from influcoder.version import __version__


def make_app(settings: ServeSettings) -> Safety:
    """The app over one index, behind `Safety`; `influcoder serve` runs it.

    Raises:
        StoreError: not an index, or a damaged one.
    """
    explorer = Explorer(settings)
    app = FastAPI(
        title="Influcoder",
        version=__version__,
        summary="Which training examples push a language model towards an output, and which push it away.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.explorer = explorer
    app.state.screen = Screen(explorer)
    app.include_router(health.router)
    for module in (asking, questions, jobs, rows, selections):
        app.include_router(module.router, prefix="/api/v1", responses=PROBLEMS)
    app.include_router(login.router)
    app.include_router(page.router)
    app.include_router(static_files.router)
    answer_errors(app)
    return Safety(app, explorer)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    explorer: Explorer = app.state.explorer
    explorer.worker.start()
    loading = asyncio.create_task(_load(explorer))
    yield
    loading.cancel()
    await asyncio.to_thread(explorer.worker.stop)
    explorer.journal.close()


async def _load(explorer: Explorer) -> None:
    """Load in the background; what cannot be loaded ends the service."""
    try:
        await explorer.worker.run(explorer.load)
    except Exception as error:
        explorer.failed = error

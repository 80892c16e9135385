"""The verb `serve`: the explorer, a page and a REST API over one index."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, Files, Trust


def serve(
    *,
    index: Path,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    checkpoints: Files | None = None,
    answers_from: str | None = None,
    queries: Files | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    token_file: Path | None = None,
    allowed_host: Annotated[list[str] | None, Parameter(negative="")] = None,
    request_timeout: float = 60.0,
    state_dir: Path | None = None,
) -> None:
    """Open an index in the browser, and to programs: a page and a REST API, until it is stopped.

    Args:
        index: what `influcoder index` or `influcoder export` wrote
        decoder: the decoder the encoder was distilled from: it answers questions, and re-checks with real gradients
        adapter: its LoRA adapter, if it had one
        checkpoints: those the teacher took its gradients from, if it did
        answers_from: the decoder that answers a prompt without a completion, where it is another than --decoder: the
            one that was trained on the rows, where gradients are taken before
        queries: files of questions that the page offers
        host: the address to listen at; one that other machines reach needs --token-file
        port: 0 takes any that is free
        token_file: a file with a secret that every request must carry
        allowed_host: a name that the service is reached by, beside this machine's own
        request_timeout: seconds that a request may take; a re-check is a job and takes as long as it takes
        state_dir: where selections are kept; INDEX-explorer beside the index if left out
    """
    from influcoder.extras import require

    require("fastapi", "uvicorn")
    from influcoder.serve.server import serve as run
    from influcoder.serve.settings import ServeSettings, read_token

    settings = ServeSettings(
        index,
        decoder,
        adapter,
        tuple(checkpoints or ()),
        answers_from,
        tuple(queries or ()),
        host,
        port,
        None if token_file is None else read_token(token_file),
        tuple(allowed_host or ()),
        request_timeout,
        state_dir,
    )
    run(settings, lambda url: print(f"The explorer is at {url} (Ctrl+C stops it)", flush=True))  # noqa: T201

"""A client of the explorer: the package's verbs, answered by a service."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from influcoder.errors import InflucoderError


class Client:
    """Sends requests to a running `influcoder serve`.

    Answers are dictionaries, as the service's `/api/v1/openapi.json` describes them.

    Args:
        url: the address that the service printed.
        token: what is in its `--token-file`, if it was started with one.
        timeout: seconds to wait for an answer.

    Raises:
        InflucoderError: by every method: the service refuses, with its own message, or cannot be reached.

    >>> with Client("http://127.0.0.1:8765") as client:  # doctest: +SKIP
    ...     answer = client.search(prompt="What is the capital of France?", completion="Paris", k=3)
    ...     [hit["id"] for hit in answer["proponents"]]
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 120.0) -> None:
        import httpx2

        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx2.Client(base_url=url.rstrip("/") + "/api/v1", headers=headers, timeout=timeout)
        self._failed = httpx2.HTTPError

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def question(
        self, prompt: str | None = None, completion: str | None = None, *, query: str | None = None
    ) -> dict[str, Any]:
        """A question with its completion, the decoder's own where it has none, and what the decoder reads of it."""
        return self._post("question", prompt=prompt, completion=completion, query=query)

    def search(
        self,
        *,
        prompt: str | None = None,
        completion: str | None = None,
        query: str | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> dict[str, Any]:
        """The rows that push the model towards a completion, `proponents`, and away from it, `opponents`.

        Args:
            prompt, completion: what a user asks, and what the model says; its own answer when omitted.
            query: the id of a saved question, instead.
            k: how many rows of each side.
            where: look only at rows whose metadata meets this, such as "genre=code,tokens<200".
        """
        return self._post("search", prompt=prompt, completion=completion, query=query, k=k, where=where)

    def verify(
        self,
        *,
        prompt: str | None = None,
        completion: str | None = None,
        query: str | None = None,
        k: int = 10,
        verify: int = 50,
        certify: int = 0,
        tokens: bool = False,
        where: str | None = None,
    ) -> dict[str, Any]:
        """The same after real gradients have re-scored the best candidates; waits for them."""
        request = {"prompt": prompt, "completion": completion, "query": query, "k": k, "where": where}
        return self._result(self._post("verify", **request, verify=verify, certify=certify, tokens=tokens))

    def progress(self, name: str) -> Iterator[dict[str, Any]]:
        """The progress of a job, until it has ended."""
        while True:
            job = self._get(f"jobs/{name}")
            yield job
            if job["status"] not in ("waiting", "running"):
                return
            time.sleep(0.2)

    def score(
        self,
        *,
        prompt: str | None = None,
        completion: str | None = None,
        query: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The scores of all rows: how they are spread; of some `rows`; or a page of them by `order`."""
        return self._post("score", prompt=prompt, completion=completion, query=query, **more)

    def tokens(
        self,
        rows: list[int],
        *,
        prompt: str | None = None,
        completion: str | None = None,
        query: str | None = None,
    ) -> dict[str, Any]:
        """Which tokens of some rows, and of the completion, carry the rows' influence."""
        return self._post("tokens", prompt=prompt, completion=completion, query=query, rows=rows)

    def rows(
        self, *, where: str | None = None, text: str | None = None, offset: int = 0, limit: int = 50
    ) -> dict[str, Any]:
        """A page of rows, in the order of the pool."""
        return self._get("rows", where=where, text=text, offset=offset, limit=limit)

    def row(self, row: int, *, original: bool = False) -> dict[str, Any]:
        """One row; as it stood in the pool's own file if `original`."""
        return self._get(f"rows/{row}" + "/original" * original)

    def provenance(self) -> dict[str, Any]:
        """What is served, and what made it."""
        return self._get("provenance")

    def select(
        self,
        name: str,
        *,
        questions: list[Mapping[str, str]] | None = None,
        top: float | None = None,
        drop: float | None = None,
        threshold: float | None = None,
        rest: str = "keep",
    ) -> dict[str, Any]:
        """Make a selection, by a rule over some questions or to be marked by hand."""
        rules = {"top": top, "drop": drop, "threshold": threshold}
        rule = {name: value for name, value in rules.items() if value is not None}
        return self._post("selections", name=name, questions=questions or [], rule=rule or None, rest=rest)

    def selections(self) -> list[dict[str, Any]]:
        """Every selection."""
        answer: list[dict[str, Any]] = self._get("selections")  # type: ignore[assignment]
        return answer

    def mark(self, selection: str, mark: str, **which: Any) -> dict[str, Any]:
        """Mark `rows`, or all that a filter leaves (`matching=True`, where=...): keep, drop, later or none."""
        return self._post(f"selections/{selection}/marks", mark=mark, **which)

    def undo(self, selection: str) -> dict[str, Any]:
        """Take the last mark or rule of a selection back."""
        return self._post(f"selections/{selection}/undo")

    def mask(self, selection: str, share: float = 0.05) -> dict[str, Any]:
        """Mask the tokens of the kept rows that push away from what is wanted; waits until it is done.

        Exports of these rows then have the mask as `influcoder_token_mask`, as `influcoder select --mask-tokens` does.
        """
        return self._result(self._post(f"selections/{selection}/mask", share=share))

    def export(self, selection: str, path: str | Path, *, rows: str = "kept", format: str = "jsonl") -> Path:
        """Write a selection's rows to a file, in the pool's own columns."""
        path = Path(path)
        with path.open("wb") as file:
            query = {"rows": rows, "format": format}
            for chunk in self._stream(f"selections/{selection}/export", query):
                file.write(chunk)
        return path

    def _result(self, job: dict[str, Any]) -> dict[str, Any]:
        """What a job finds, once it has ended."""
        for last in self.progress(job["id"]):
            job = last
        if job["status"] != "done":
            raise InflucoderError(job["problem"]["detail"] if job["problem"] else f"the job was {job['status']}.")
        result: dict[str, Any] = job["result"]
        return result

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return self._ask("POST", path, json={name: value for name, value in body.items() if value is not None})

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **more)
        except self._failed as error:
            raise InflucoderError(f"{self._http.base_url}: cannot be reached ({error}). Is it running?") from error
        if answer.is_error:
            raise _error_of(answer.text, answer.status_code)
        body: dict[str, Any] = answer.json()
        return body

    def _stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        with self._http.stream("GET", path, params=query) as answer:
            if answer.is_error:
                answer.read()
                raise _error_of(answer.text, answer.status_code)
            yield from answer.iter_bytes()


def _error_of(text: str, status: int) -> InflucoderError:
    """The service's own message as an error."""
    import json

    try:
        return InflucoderError(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return InflucoderError(f"the service answers {status}: {text[:200]}")

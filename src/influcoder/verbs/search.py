"""The verb `search`: the rows of an index that act on some queries."""

from pathlib import Path
from typing import overload

from influcoder.attribution.hits import Hits
from influcoder.attribution.search import search as search_index
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.verbs.drift import last_check
from influcoder.verbs.opening import (
    AnyCheckpoints,
    AnyDecoder,
    AnyIndex,
    Rows,
    open_any_index,
    open_teacher,
    read_rows,
)
from influcoder.verbs.questions import one_question


@overload
def search(
    index: AnyIndex,
    queries: Rows,
    *,
    k: int = ...,
    opponents: bool = ...,
    verify: int = ...,
    certify: int = ...,
    tokens: bool = ...,
    decoder: AnyDecoder | None = ...,
    adapter: str | Path | None = ...,
    checkpoints: AnyCheckpoints | None = ...,
    where: str | None = ...,
    approximate: bool = ...,
) -> list[Hits]: ...


@overload
def search(
    index: AnyIndex,
    queries: None = ...,
    *,
    prompt: str,
    completion: str | None = ...,
    k: int = ...,
    opponents: bool = ...,
    verify: int = ...,
    certify: int = ...,
    tokens: bool = ...,
    decoder: AnyDecoder | None = ...,
    adapter: str | Path | None = ...,
    checkpoints: AnyCheckpoints | None = ...,
    where: str | None = ...,
    approximate: bool = ...,
) -> Hits: ...


def search(
    index: AnyIndex,
    queries: Rows | None = None,
    *,
    prompt: str | None = None,
    completion: str | None = None,
    k: int = 10,
    opponents: bool = False,
    verify: int = 0,
    certify: int = 0,
    tokens: bool = False,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
    checkpoints: AnyCheckpoints | None = None,
    where: str | None = None,
    approximate: bool = False,
) -> list[Hits] | Hits:
    """Find the pool examples that push the model towards a completion, or away from it.

    Args:
        index: its folder, or the loaded `Index`.
        queries: files, a list of rows or of `Example`s, or a `datasets.Dataset`.
        prompt, completion: instead, what a user asks and what the model says; the decoder's own answer when omitted.
        k: how many examples to find for each query.
        opponents: find those that push away instead.
        verify: how many of the best candidates the decoder's real gradients re-score; 0 for none.
        certify: how many random rows of those that were not re-scored to score as well; 0 for none. `certified` then
            bounds how many of the others act more strongly than the last hit.
        tokens: show which tokens carry the influence of each hit; with `verify`.
        decoder: the one that the encoder was distilled from: the query's own gradient is then used. A folder, hub id or
            `Decoder`.
        adapter: a LoRA adapter of a decoder that is not loaded yet.
        checkpoints: those that the teacher took gradients from, if any.
        where: look only at rows whose metadata meets this, such as "genre=code,tokens<200".
        approximate: ask the IVF-PQ index that `index(approximate=True)` made, not every row.

    Returns:
        A list of `Hits`, one for each query and in their order; of a prompt and completion, its `Hits` alone. A hit has
        rank, score (above 0 raises the likelihood of the completion), exact (the teacher's, where verified), example,
        and with `tokens` the share of each token of its completion in `exact` (tokens) and of the query's
        (answer_tokens). `Hits` have query, trust and certified.

    Raises:
        ConfigError: both queries and a prompt were given, or neither; or settings that do not go together.
        DataError: a query cannot be read.
        StoreError: not an index, or a damaged one.
        StoreMismatch: the decoder is not the one that the encoder was distilled from.

    >>> import influcoder
    >>> hits = influcoder.search("index", prompt="What is the capital of France?", completion="Paris", k=3)
    >>> [hit.rank for hit in hits]
    [1, 2, 3]
    >>> len(influcoder.search("index", [{"question": "Two plus two?", "answer": "four"}]))
    1
    """
    refuse_no_question(queries, prompt, completion, decoder)
    opened, loaded = open_any_index(index, decoder, adapter, checkpoints=checkpoints)
    examples = questions(queries, prompt, completion, loaded)
    teacher = None if loaded is None else open_teacher(opened.encoder, loaded, checkpoints)
    hits_of_queries = search_index(
        opened,
        examples,
        k=k,
        opponents=opponents,
        verify=verify,
        certify=certify,
        tokens=tokens,
        teacher=teacher,
        where=where,
        approximate=approximate,
    )
    check = last_check(opened.folder, opened.encoder.fingerprint)
    for hits in hits_of_queries:
        hits.drift = check
    return hits_of_queries if queries is not None else hits_of_queries[0]


def refuse_no_question(queries: object, prompt: str | None, completion: str | None, decoder: object = None) -> None:
    """See that there are queries, or one prompt and a completion, or a decoder that gives it.

    Raises:
        ConfigError: both, or neither.
    """
    if queries is not None and (prompt or completion):
        raise ConfigError("--queries was given with --query or --completion; give one question, or --queries.")
    answered = decoder is not None if completion is None else completion.strip()
    if queries is None and (not prompt or not answered):
        missing = "--completion" if prompt else "--query"
        raise ConfigError(
            f'{missing} is missing. Give what the model was asked and what it answered, as --query "Where was Ada '
            'Lovelace born?" --completion "In Paris.", or files of such rows with --queries.'
        )


def questions(
    queries: Rows | None, prompt: str | None, completion: str | None, decoder: Decoder | None = None
) -> list[Example]:
    """The queries as examples, checked by a decoder if there is one; or one prompt and completion.

    Without a completion the decoder gives it: its own greedy answer.

    Raises:
        DataError: the decoder answers nothing, or a row cannot be read.
    """
    if queries is not None:
        return read_rows(queries, "queries", decoder)
    if decoder is not None:
        return [one_question(decoder, prompt or "", completion).example]
    return [Example.question(prompt or "", completion or "")]

"""The corpora of the benchmarks, read from a folder that the user names with --data.

    bbh/bbh.jsonl.gz                   {task, input, target}: BIG-Bench Hard (MIT), the queries
    dolly/dolly.jsonl.gz               {instruction, context, response} (CC BY-SA 3.0), a pool
    benign_chat/benign_chat.jsonl.gz   {prompt, response}: twenty sources, a second pool
    counterfact/counterfact.jsonl.gz   {subject, prompt, target_new, target_true, ...}: CounterFact (MIT)
    toxicity/toxicity.jsonl.gz         {prompt, response, label, source, origin}: unsafe requests; never shown

`--data hub` reads the first two by their hub ids.

Facts are asked for by a paraphrase of the statement. Beside each statement stand two look-alikes: the same
subject with the true object, and another subject with the false object, so that a word alone does not win.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.benchmarks.corpora import hub
from influcoder.benchmarks.corpora.problem import Problem, Split
from influcoder.benchmarks.settings import Budget
from influcoder.data.examples import Example, example_from_row, normalised
from influcoder.data.row_files import read_rows
from influcoder.errors import DataError

HUB = Path("hub")


def tasks(data: Path, pool: str, budget: Budget, seed: int) -> Problem:
    """BIG-Bench Hard on one of `POOLS`, shuffled by the seed; no text stands on a side twice.

    Raises:
        DataError: a corpus is missing, or too small for the budget.
    """
    rng = np.random.default_rng(seed)
    query_count, row_count = budget.train_queries + budget.test_queries, budget.train_pool + budget.test_pool
    queries = shuffled(bbh(data), query_count, "bbh", rng, more=budget.more_queries)
    rows = shuffled(POOL_READERS[pool](data), row_count, pool, rng, more=budget.more_pool)
    return Problem(
        rows[budget.train_pool : row_count],
        queries[budget.train_queries : query_count],
        ["task"] * budget.test_queries,
        train=Split(queries[: budget.train_queries], rows[: budget.train_pool]),
        unlabelled=Split(queries[query_count:], rows[row_count:]),
    )


def facts(data: Path, budget: Budget, seed: int) -> Problem:
    """Facts asked for by a paraphrase, on a pool of their statements, look-alikes of them, and Dolly rows.

    Metadata say the `fact` of each, and the `kind` of a pool row: statement, same-subject, same-object, plain.
    No subject is asked about on two sides; a look-alike may be about a subject that another side asks about.
    """
    rng = np.random.default_rng(seed)
    pools = (budget.train_pool, budget.test_pool, budget.more_pool)
    counts = [pool * 3 // 10 for pool in pools]
    chosen = iter(different_facts(counterfact(data), sum(counts), rng))
    plain = iter(shuffled(dolly(data), sum(pools) - 3 * sum(counts), "dolly", rng))
    sides = []
    for count, pool in zip(counts, pools, strict=True):
        stated = list(islice(chosen, count))
        rows = [row for fact in stated for row in statements_of(fact)] + list(islice(plain, pool - 3 * count))
        questions = [question_of(fact) for fact in stated]
        sides.append(Split(questions, [rows[place] for place in rng.permutation(len(rows))]))
    train, test, (more_queries, more_pool) = sides
    unlabelled = Split(more_queries[: budget.more_queries], more_pool)
    return Problem(test.pool, test.queries, ["question"] * len(test.queries), train=train, unlabelled=unlabelled)


def states(queries: Sequence[Example], pool: Sequence[Example]) -> NDArray[np.bool_]:
    """(n_queries, n_pool) whether a pool row is the very statement a question asks for."""
    stated = [row.metadata["fact"] if row.metadata.get("kind") == "statement" else None for row in pool]
    return np.array([[fact == query.metadata["fact"] for fact in stated] for query in queries])


def counterfact(data: Path) -> list[dict[str, Any]]:
    """The rows of CounterFact as they are."""
    return _rows(data, "counterfact")


def bbh(data: Path) -> list[Example]:
    """`Q: ...` and `A:`, as the paper asks without its worked examples; 24 tasks."""
    rows = hub.bbh_rows() if data == HUB else _rows(data, "bbh")
    return [
        Example(f"bbh-{number}", f"Q: {row['input']}\nA:", f" {row['target']}", metadata={"task": row["task"]})
        for number, row in enumerate(rows)
    ]


def dolly(data: Path) -> list[Example]:
    """Instructions with their responses, as chats."""
    rows = hub.rows(hub.DOLLY, None, "train") if data == HUB else _rows(data, "dolly")
    return [
        example_from_row({"id": f"dolly-{number}"} | {key: row[key] for key in ("instruction", "context", "response")})
        for number, row in enumerate(rows)
    ]


def benign_chat(data: Path) -> list[Example]:
    """Prompts with their responses, as chats; the genre as metadata."""
    return _chats("chat", _rows(data, "benign_chat"), "genre")


def toxicity(data: Path) -> list[Example]:
    """Requests with their answers, as chats; `label` (unsafe, safe_refusal, benign), `source` and `origin` as metadata.

    Ids are numbers: no text is ever shown.
    """
    return _chats("toxicity", _rows(data, "toxicity"), "label", "source", "origin")


POOL_READERS = {"dolly": dolly, "benign_chat": benign_chat}


def _rows(data: Path, name: str) -> list[dict[str, Any]]:
    path = data / name / f"{name}.jsonl.gz"
    if not path.is_file():
        raise DataError(f"{path}: not there. --data names a folder that holds {name}/{name}.jsonl.gz.")
    return read_rows(path)


def _chats(prefix: str, rows: Iterable[dict[str, Any]], *metadata: str) -> list[Example]:
    return [
        example_from_row(
            {"id": f"{prefix}-{number}", "question": row["prompt"], "answer": row["response"]}
            | {key: row[key] for key in metadata}
        )
        for number, row in enumerate(rows)
    ]


def shuffled(
    examples: Sequence[Example], count: int | None, name: str, rng: np.random.Generator, *, more: int = 0
) -> list[Example]:
    """`count` of the examples in random order, all of them when None, each text once.

    Args:
        more: how many examples beyond `count` to give, where there are any.

    Raises:
        DataError: there are fewer.
    """
    different: dict[str, Example] = {}
    for place in rng.permutation(len(examples)):
        different.setdefault(normalised(examples[place]), examples[place])
        if count is not None and len(different) == count + more:
            break
    if count is not None and len(different) < count:
        raise DataError(f"{name}: {len(different)} different examples, {count} are needed.")
    return list(different.values())


def different_facts(rows: list[dict[str, Any]], count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """`count` rows of different subjects and different texts; look-alikes may share a subject."""
    subjects: set[str] = set()
    texts: set[str] = set()
    facts: list[dict[str, Any]] = []
    for place in rng.permutation(len(rows)):
        row = rows[place]
        row_texts = {normalised(example) for example in (question_of(row), *statements_of(row))}
        if row["subject"] in subjects or row_texts & texts:
            continue
        subjects.add(row["subject"])
        texts |= row_texts
        facts.append(row)
        if len(facts) == count:
            return facts
    raise DataError(f"counterfact: {len(facts)} different facts, {count} are needed.")


def question_of(row: dict[str, Any]) -> Example:
    """A row of CounterFact as a paraphrase that asks for its false object."""
    name = f"fact-{row['case_id']}"
    prompt = row["paraphrase_prompts"][0]
    return Example(f"{name}-question", prompt, f" {row['target_new']}", metadata={"fact": name, "kind": "question"})


def statements_of(row: dict[str, Any]) -> list[Example]:
    """The statement of a row of CounterFact, and its two look-alikes."""
    name = f"fact-{row['case_id']}"
    neighbour = row["neighborhood_prompts"][0]["prompt"]
    kinds = {
        "statement": (row["prompt"], row["target_new"]),
        "same-subject": (row["prompt"], row["target_true"]),
        "same-object": (neighbour, row["target_new"]),
    }
    return [
        Example(f"{name}-{kind}", prompt, f" {target}", metadata={"fact": name, "kind": kind})
        for kind, (prompt, target) in kinds.items()
    ]

"""DATE-LM's own sets by hub id, as problems.

    DataAttributionEval/Toxicity-Bias-Filtering:SUBSET   train {prompt, response, type} and ref; students learn from
                                                         Dolly and JailbreakBench's behaviours
    DataAttributionEval/Counterfact:Pythia-1b            train {prompt, response, counterfactual_entity, true_entity}
                                                         and ref; students learn from other rows of CounterFact

Students learn from other sources than pool and references, as in the Influcoder paper's leak-free setting.
"""

from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora import hub
from influcoder.benchmarks.corpora.corpora import HUB, dolly, shuffled
from influcoder.benchmarks.corpora.problem import Problem, train_and_validation
from influcoder.data.examples import Example, example_from_row


def names(data: Path, dataset: str) -> bool:
    """Whether the user named this dataset as data, with or without a subset."""
    return str(data).split(":")[0] == dataset


def toxic_problem(data: Path, train_queries: int, train_pool: int, seed: int) -> Problem:
    """DATE-LM's pool and references; unsafe requests and Dolly rows to learn from."""
    rng = np.random.default_rng(seed)
    pool, references = (
        [_toxic(f"{split}-{number}", row) for number, row in enumerate(hub.rows(hub.TOXICITY, _subset(data), split))]
        for split in ("train", "ref")
    )
    tested = {example.prompt for example in (*pool, *references)}
    behaviours = [
        _chat_row(f"jbb-{number}", row["Goal"], row["Target"], label="unsafe", source="jailbreakbench")
        for number, row in enumerate(hub.rows(hub.BEHAVIOURS, "behaviors", "harmful"))
        if row["Goal"] not in tested
    ]
    unsafe_rows = min(train_pool // 6, len(behaviours) // 2)
    unsafe = shuffled(behaviours, unsafe_rows + min(train_queries, len(behaviours) - unsafe_rows), hub.BEHAVIOURS, rng)
    benign = [row for row in dolly(HUB) if row.prompt not in tested]
    learnt = [*shuffled(benign, train_pool - unsafe_rows, hub.DOLLY, rng), *unsafe[:unsafe_rows]]
    learnt = [learnt[row] for row in rng.permutation(len(learnt))]
    return Problem(pool, references, (), *train_and_validation(unsafe[unsafe_rows:], learnt))


def fact_problem(data: Path, train_queries: int, train_pool: int, seed: int) -> Problem:
    """DATE-LM's pool and references; other false facts to learn from, which share no pair of objects with them."""
    pool, references = (
        [_false(f"{split}-{number}", row) for number, row in enumerate(hub.rows(hub.COUNTERFACT, _subset(data), split))]
        for split in ("train", "ref")
    )
    tested = {example.metadata["pair"] for example in (*pool, *references)}
    free_facts = []
    for number, row in enumerate(hub.rows(hub.FACTS, None, "train")):
        pair = _pair(row["target_true"], row["target_false"])
        metadata = {"pair": pair, "subject": row["subject"], "kind": "fact"}
        if pair not in tested:
            completion = f" {row['target_false'].strip()}"
            free_facts.append(Example(f"fact-{number}", row["prompt"].strip(), completion, metadata=metadata))
    chosen = shuffled(free_facts, train_queries + train_pool, hub.FACTS, np.random.default_rng(seed))
    kinds = [str(query.metadata["kind"]) for query in references]
    return Problem(pool, references, kinds, *train_and_validation(chosen[:train_queries], chosen[train_queries:]))


def _subset(data: Path) -> str | None:
    return str(data).partition(":")[2] or None


def _toxic(name: str, row: dict[str, Any]) -> Example:
    label = "unsafe" if row["type"] == "Unsafe" else "benign"
    return _chat_row(name, row["prompt"], row["response"], label=label, source="datelm")


def _chat_row(name: str, question: str, answer: str, **metadata: str) -> Example:
    return example_from_row({"id": name, "question": question, "answer": answer} | metadata)


def _false(name: str, row: dict[str, Any]) -> Example:
    pair = _pair(row["true_entity"], row["counterfactual_entity"])
    metadata = {"pair": pair, "subject": name, "kind": "substitution"}
    return Example(name, row["prompt"], f" {row['response'].strip()}", metadata=metadata)


def _pair(true: str, false: str) -> tuple[str, str]:
    return true.strip().lower(), false.strip().lower()

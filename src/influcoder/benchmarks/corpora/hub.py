"""Datasets of the paper's experiment and DATE-LM's protocols by hub id, read row by row.

A folder of that name in the working directory is read instead.
"""

from collections.abc import Iterator
from typing import Any

from influcoder.errors import DataError, first_line
from influcoder.extras import optional

BBH, DOLLY = "lukaemon/bbh", "databricks/databricks-dolly-15k"
BEHAVIOURS, FACTS = "JailbreakBench/JBB-Behaviors", "NeelNanda/counterfact-tracing"
TOXICITY, COUNTERFACT = "DataAttributionEval/Toxicity-Bias-Filtering", "DataAttributionEval/Counterfact"


def rows(dataset: str, subset: str | None, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a dataset's split, read as they come.

    Raises:
        DataError: it cannot be read.
    """
    datasets = optional("datasets")
    try:
        yield from datasets.load_dataset(dataset, subset, split=split, streaming=True)
    except Exception as error:  # the library raises errors of every class, those of the network among them
        raise DataError(
            f"{dataset}, subset {subset}, split {split}: cannot be read: {first_line(error)} "
            "Expected a dataset in the cache of the Hugging Face hub, or on the hub itself, within reach."
        ) from error


def bbh_rows() -> Iterator[dict[str, Any]]:
    """The rows of every task of BIG-Bench Hard, {task, input, target}."""
    datasets = optional("datasets")
    for task in datasets.get_dataset_config_names(BBH):
        for row in rows(BBH, task, "test"):
            yield {"task": task, "input": row["input"], "target": row["target"]}

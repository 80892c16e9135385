"""What a report shows of one query: its hits and the distribution of all scores of the pool."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from influcoder.attribution.hits import Hits
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats


def query_summary(
    query: Example,
    answer: str | None,
    index: Index,
    vector: Floats,
    hits: Mapping[str, Hits],
    planted: Mapping[int, bool],
    references: Floats,
) -> dict[str, Any]:
    """A query's entry in `report.json`.

    Args:
        vector: (1, dim) the query's vector that the hits were searched with.
        answer: the model's own answer, if it was asked.
        hits: under "proponents" and "opponents".
        planted: for the demo: which hit rows taught the answer.
        references: (n, dim) vectors of unrelated queries; 95 % of their scores make the null band.
    """
    scores = index.scores(vector)[0]
    counts, edges = np.histogram(scores, bins=60)
    null = np.quantile(index.scores(references), [0.025, 0.975])
    shown = {
        side: [
            {
                "rank": hit.rank,
                "id": hit.example.id,
                "score": hit.score,
                "exact": hit.exact,
                "planted": planted.get(hit.row, False),
                "prompt": hit.example.prompt,
                "completion": hit.example.completion,
                "note": hit.example.metadata.get("kind"),
                **hit.shares(),
            }
            for hit in of_side
        ]
        for side, of_side in hits.items()
    }
    return {
        "id": query.id,
        "prompt": query.prompt,
        "completion": query.completion,
        "answer": answer,
        "kind": query.metadata.get("kind", "query"),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "null_band": null.tolist(),
        **{name: value for name, value in hits["proponents"].json().items() if name != "hits"},
        **shown,
    }

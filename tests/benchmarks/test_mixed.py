"""The mixed pool of a pretrained decoder, from made-up corpora."""

from collections import Counter

import numpy as np
import pytest

from helpers.corpora import write_corpora, write_rows
from influcoder.benchmarks.corpora.mixed import LEARNT, QUERIES, ROWS, mixed_problem
from influcoder.benchmarks.results.length import by_length
from influcoder.benchmarks.settings import CausalSettings
from influcoder.benchmarks.tasks.causal import Causal
from influcoder.errors import ConfigError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_corpora(tmp_path_factory.mktemp("corpora"))
    write_rows(folder, "bbh", [{"task": "sums", "input": f"{n} + {n} =", "target": str(2 * n)} for n in range(400)])
    return folder


def everything(examples):
    return [True] * len(examples)


def test_every_kind_has_its_share_and_no_text_stands_on_two_sides(data):
    problem = mixed_problem(data, everything)
    genres = 3  # of the made-up corpus
    rows = {"genre": genres * ROWS["genre"], "dolly": ROWS["dolly"], "fact": 3 * ROWS["fact"]}
    asked = {"genre": genres * QUERIES["genre"]} | {kind: QUERIES[kind] for kind in ("dolly", "fact", "task")}
    assert Counter(row.metadata["kind"] for row in problem.pool) == rows
    assert Counter(problem.kinds) == asked
    learnt = [*problem.train.pool, *problem.validation.pool]
    assert Counter(row.metadata["kind"] for row in learnt) == {kind: LEARNT * count for kind, count in rows.items()}
    assert problem.audit()["overlap"] == 0


def test_the_seed_draws_the_problem(data):
    one, again, other = (mixed_problem(data, everything, seed) for seed in (0, 0, 1))
    assert [row.id for row in one.pool] == [row.id for row in again.pool]
    assert [row.id for row in one.pool] != [row.id for row in other.pool]


def test_texts_that_would_be_cut_are_left_out(data, decoder):
    settings = CausalSettings(seeds=1, max_length=24)
    short = decoder.reading_with(decoder.tokenizer)
    short.max_length = settings.max_length
    problem = Causal.of_files(short, settings, data=str(data)).problem
    plain = [row for row in problem.pool if row.metadata["kind"] != "fact"]
    assert plain
    assert max(len(one.ids) for one in short.tokenise(plain)) < settings.max_length


def test_corpora_and_files_are_not_mixed(decoder, data):
    with pytest.raises(ConfigError, match="--data, or --pool and --queries, not both"):
        Causal.of_files(decoder, CausalSettings(), ["a.jsonl"], ["b.jsonl"], str(data))


def test_length_policies():
    tokens = np.array([1, 2, 4, 8, 16])
    scores = np.array([[3.0, 1.0, 2.0, 5.0, 4.0]])
    found = by_length(scores, tokens)
    np.testing.assert_allclose(found["times tokens"], scores * tokens)
    np.testing.assert_allclose(found["times root of tokens"] ** 2, scores**2 * tokens)
    # what is left has nothing of a line in log tokens, and what was a line is nothing
    logs = np.log(tokens)
    assert abs((found["length out"] @ (logs - logs.mean()))[0]) < 1e-9
    np.testing.assert_allclose(by_length(2 + 3 * logs[None], tokens)["length out"], 0, atol=1e-9)
    np.testing.assert_array_equal(found["as it is"], scores)

"""Attribution of other tools: what becomes of it, from the files to an encoder, and what is refused."""

import tracemalloc
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from helpers.commands import refused
from helpers.folders import contents
from helpers.foreign_matrices import save_bergson, save_lists, save_wide
from helpers.sentences import WORDS, as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError, StoreMismatch
from influcoder.store.store import Store
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.imported import factored, from_bergson, from_features, from_scores

QUERIES, POOL = sentences(30, 1, "q"), sentences(60, 2, "p")
Q, P = [one.id for one in QUERIES], [one.id for one in POOL]


def random(rows, width, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(rows, width))).astype(np.float32)


VECTORS = random(30, 8, 1, 7.0), random(60, 8, 2, 0.01)


def shuffled(ids, array, seed=3):
    order = np.random.default_rng(seed).permutation(len(ids))
    return [ids[n] for n in order], array[order]


def save(folder, form, array, ids, what):
    """One side's vectors as the files and flags of a form; their order is not that of the examples."""
    ids, array = shuffled(ids, array)
    path = folder / f"{what}.{form.split('-')[0]}"
    if form == "parquet-wide":
        save_wide(path, array, ids)
        return path, None
    if form == "parquet-lists":
        save_lists(path, array, ids)
        return path, None
    np.save(path, array) if form == "npy" else save_file({"features": array}, path)
    (folder / f"{what}.txt").write_text("\n".join(ids))
    return path, folder / f"{what}.txt"


@pytest.mark.parametrize("form", ["npy", "safetensors", "parquet-wide", "parquet-lists"])
def test_features_are_kept_as_they_are_in_the_order_of_the_examples(tmp_path, form):
    files = [save(tmp_path, form, *side) for side in ((VECTORS[0], Q, "query"), (VECTORS[1], P, "pool"))]
    found = from_features(files[0][0], files[1][0], QUERIES, POOL, query_ids=files[0][1], pool_ids=files[1][1])
    metrics = found.write(tmp_path / "out")
    sample = FeaturesFolder(tmp_path / "out").sample
    assert (sample.queries, sample.pool) == (QUERIES, POOL)
    np.testing.assert_array_equal(sample.query_features, VECTORS[0])
    np.testing.assert_array_equal(sample.pool_features, VECTORS[1])
    assert {name: metrics[name] for name in ("source", "queries", "pool", "width")} == {
        "source": "features",
        "queries": 30,
        "pool": 60,
        "width": 8,
    }


def test_store_tells_what_it_was_made_from(tmp_path):
    np.save(tmp_path / "q.npy", VECTORS[0])
    np.save(tmp_path / "p.npy", VECTORS[1])
    from_features(tmp_path / "q.npy", tmp_path / "p.npy", QUERIES, POOL).write(tmp_path / "out")
    store = Store(tmp_path / "out" / "queries")
    made = store.provenance.teacher
    assert (store.manifest["dtype"], made.name, made.settings) == (
        "float32",
        "imported",
        {"source": "features"},
    )
    assert set(made.files) == {"query_features", "pool_features"}
    np.testing.assert_allclose(store.columns["norm"].to_numpy(), np.linalg.norm(VECTORS[0], axis=1), rtol=1e-6)


def test_rows_without_ids_are_taken_in_order(tmp_path):
    np.save(tmp_path / "q.npy", VECTORS[0])
    np.save(tmp_path / "p.npy", VECTORS[1].astype(np.float64))
    from_features(tmp_path / "q.npy", tmp_path / "p.npy", QUERIES, POOL).write(tmp_path / "out")
    np.testing.assert_array_equal(FeaturesFolder(tmp_path / "out").sample.pool_features, VECTORS[1])


@pytest.mark.parametrize("ids", [True, False])
def test_bergson_indexes_are_kept_as_they_are(tmp_path, ids):
    for name, array, examples in (("q", VECTORS[0], QUERIES), ("p", VECTORS[1], POOL)):
        names, rows = shuffled([one.id for one in examples], array) if ids else ([], array)
        save_bergson(tmp_path / name, rows.astype(np.float16), data={"id": names} if ids else None)
    from_bergson(tmp_path / "q", tmp_path / "p", QUERIES, POOL).write(tmp_path / "out")
    sample = FeaturesFolder(tmp_path / "out").sample
    np.testing.assert_array_equal(sample.query_features, VECTORS[0].astype(np.float16))
    np.testing.assert_array_equal(sample.pool_features, VECTORS[1].astype(np.float16))


def test_bergson_indexes_of_other_modules_are_refused(tmp_path):
    save_bergson(tmp_path / "q", VECTORS[0], sizes={"a": 4, "b": 4})
    save_bergson(tmp_path / "p", VECTORS[1], sizes={"b": 4, "a": 4})
    with pytest.raises(DataError, match="hold other modules"):
        from_bergson(tmp_path / "q", tmp_path / "p", QUERIES, POOL)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6)


def save_scores(folder, form, scores):
    """(path, flags) of a matrix of scores in some form, rows and columns in another order than the examples'."""
    queries, pool = Q[: scores.shape[0]], P[: scores.shape[1]]
    rows, mixed = shuffled(queries, scores)
    columns, mixed = shuffled(pool, mixed.T)
    mixed, path = mixed.T, folder / f"scores.{form.split('-')[0]}"
    if form == "parquet-wide":
        save_wide(path, mixed, rows, columns)
        return path, {}
    if form == "parquet-long":
        names = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        order = np.random.default_rng(5).permutation(mixed.size)
        table = {"query_id": names[0][order], "pool_id": names[1][order], "score": mixed.ravel()[order]}
        pq.write_table(pa.table(table | {"rank": order}), path)
        return path, {}
    np.save(path, mixed) if form == "npy" else save_file({"scores": np.ascontiguousarray(mixed)}, path)
    (folder / "rows.json").write_bytes(orjson.dumps(rows))
    (folder / "columns.txt").write_text("\n".join(columns))
    return path, {"query_ids": folder / "rows.json", "pool_ids": folder / "columns.txt"}


@given(
    scores=SHAPES.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=NUMBERS)).filter(np.any),
    form=st.sampled_from(["npy", "safetensors", "parquet-wide", "parquet-long"]),
)
def test_scores_are_the_inner_products(tmp_path_factory, scores, form):
    folder = tmp_path_factory.mktemp("scores")
    path, ids = save_scores(folder, form, scores)
    told = None if form.startswith("parquet") else "queries"
    found = from_scores(path, QUERIES[: scores.shape[0]], POOL[: scores.shape[1]], rows=told, **ids)
    metrics = found.write(folder / "out")
    error = np.abs(FeaturesFolder(folder / "out").sample.influence.astype(np.float64) - scores).max()
    assert error <= 1e-5 * np.abs(scores).max()
    assert metrics["score_relative_error"] <= 1e-5
    assert metrics["score_max_abs_error"] == pytest.approx(
        metrics["score_relative_error"] * np.abs(scores).max(), rel=1e-9
    )


def test_factors_have_no_more_columns_than_the_rank():
    queries, pool = random(30, 4), random(60, 4, 1)
    exact = factored(queries.astype(np.float64) @ pool.T.astype(np.float64))
    assert [part.shape for part in exact] == [(30, 4), (60, 4)]


def test_resumed_import_is_the_undisturbed_one(tmp_path):
    np.save(tmp_path / "s.npy", random(30, 60))
    found = from_scores(tmp_path / "s.npy", QUERIES, POOL)
    found.write(tmp_path / "out")
    before = contents(tmp_path / "out")
    for path in (tmp_path / "out" / "pool").glob("manifest.json"):
        path.unlink()
    from_scores(tmp_path / "s.npy", QUERIES, POOL).write(tmp_path / "out")
    assert contents(tmp_path / "out") == before
    np.save(tmp_path / "s.npy", random(30, 60, 9))
    with pytest.raises(StoreMismatch, match=r"files\.scores"):
        from_scores(tmp_path / "s.npy", QUERIES, POOL).write(tmp_path / "out")


def features_of(folder, queries=VECTORS[0], pool=VECTORS[1], **ids):
    np.save(folder / "q.npy", queries)
    np.save(folder / "p.npy", pool)
    return from_features(folder / "q.npy", folder / "p.npy", QUERIES, POOL, **ids)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_vector_that_is_not_finite_is_refused_by_id(tmp_path, value):
    bad = VECTORS[1].astype(np.float64)
    bad[41, 3] = value
    with pytest.raises(DataError, match=r"p\.npy: the vector of 'p41' is not finite in float32"):
        features_of(tmp_path, pool=bad)


def test_widths_that_differ_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"q\.npy has 7 numbers a row, .*p\.npy has 8"):
        features_of(tmp_path, queries=VECTORS[0][:, :7])


def test_rows_that_are_no_examples_are_refused_with_both_numbers(tmp_path):
    with pytest.raises(DataError, match="29 query vectors for 30 query examples"):
        features_of(tmp_path, queries=VECTORS[0][:29])


@pytest.mark.parametrize("form", ["npy", "bergson"])
def test_only_a_shard_is_in_memory_at_a_time(tmp_path, form):
    examples = [Example(f"e{n}", "", f"text {n}") for n in range(4096)]
    vectors = random(4096, 2048)
    if form == "npy":
        np.save(tmp_path / "m.npy", vectors)
    else:
        save_bergson(tmp_path / "m", vectors)
    read, path = (from_features, tmp_path / "m.npy") if form == "npy" else (from_bergson, tmp_path / "m")
    tracemalloc.start()
    try:
        read(path, path, examples, examples).write(tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < vectors.nbytes / 2
    finally:
        tracemalloc.stop()


def test_ids_given_twice_are_refused(tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(Q))
    save_lists(tmp_path / "q.parquet", VECTORS[0], Q)
    np.save(tmp_path / "p.npy", VECTORS[1])
    with pytest.raises(ConfigError, match=r"holds its own query ids\. Leave --query-ids out"):
        from_features(tmp_path / "q.parquet", tmp_path / "p.npy", QUERIES, POOL, query_ids=tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (np.zeros((30, 60)), "every score is 0"),
        (np.full((30, 60), np.nan), "the score of query 'q0' and pool 'p0' is not finite"),
        (np.ones((61, 30)), "61 query vectors for 30 query examples"),
        (np.ones((30, 59)), "59 pool vectors for 60 pool examples"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, scores, told):
    np.save(tmp_path / "s.npy", scores)
    with pytest.raises(DataError, match=told):
        from_scores(tmp_path / "s.npy", QUERIES, POOL)


def long_table(**change):
    pairs = [(q, p) for q in Q[:2] for p in P[:2]]
    return {"query_id": [q for q, _ in pairs], "pool_id": [p for _, p in pairs], "score": [1.0, 2.0, 3.0, 4.0]} | change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pool_id": ["p0", "p1", "p0", "p0"]}, "query 'q1' and pool 'p0' have 2 scores"),
        ({"query_id": ["q0", "q0", "q1", "q2"]}, "1 of 3 query ids belong to no example, 'q2' the first"),
        ({"query_id": ["q0"] * 4}, "nothing for 1 of 2 query examples, 'q1' the first"),
        ({"pool_id": ["p0", "p1", "p0", None]}, "column 'pool_id' holds nulls"),
        ({"score": ["a", "b", "c", "d"]}, "column 'score' is string"),
        ({"score": [1.0, 2.0, None, 4.0]}, "the score of query 'q1' and pool 'p0' is not finite"),
    ],
)
def test_long_tables_that_cannot_be_used(tmp_path, change, told):
    pq.write_table(pa.table(long_table(**change)), tmp_path / "s.parquet")
    with pytest.raises(DataError, match=told):
        from_scores(tmp_path / "s.parquet", QUERIES[:2], POOL[:2])


def test_long_table_with_a_pair_left_out(tmp_path):
    table = {name: values[:3] for name, values in long_table().items()}
    pq.write_table(pa.table(table), tmp_path / "s.parquet")
    with pytest.raises(DataError, match="query 'q1' and pool 'p1' have 0 scores"):
        from_scores(tmp_path / "s.parquet", QUERIES[:2], POOL[:2])


def test_long_table_and_ids_are_refused(tmp_path):
    pq.write_table(pa.table(long_table()), tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match="Leave --query-ids and --pool-ids out"):
        from_scores(tmp_path / "s.parquet", QUERIES[:2], POOL[:2], pool_ids=Path("x"))


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    """Files of a user of another tool: its features are those of a linear model of the words."""
    folder = tmp_path_factory.mktemp("outside")
    save_decoder(folder / "decoder", tokenizer)
    for name, count, seed in (("q", 120, 1), ("p", 160, 2), ("tq", 12, 11), ("tp", 30, 12)):
        examples = sentences(count, seed, name)
        write_jsonl(folder / f"{name}.jsonl", as_rows(examples))
        counts = np.array([[one.completion.split().count(word) for word in WORDS] for one in examples])
        np.save(folder / f"{name}.npy", 3.0 * counts + 0.1 * random(count, len(WORDS), seed))
    np.save(folder / "scores.npy", np.load(folder / "q.npy") @ np.load(folder / "p.npy").T)
    return folder


def import_(call, work, output, *source, sides=("q", "p")):
    files = ["--queries", work / f"{sides[0]}.jsonl", "--pool", work / f"{sides[1]}.jsonl"]
    return call("import", *files, "--output-dir", output, "--json", *source)


def test_from_features_to_an_evaluated_static_encoder(work, tmp_path, call):
    for name, sides in (("train", ("q", "p")), ("test", ("tq", "tp"))):
        source = ["--query-features", work / f"{sides[0]}.npy", "--pool-features", work / f"{sides[1]}.npy"]
        status, out, err = import_(call, work, tmp_path / name, *source, "--decoder", work / "decoder", sides=sides)
        assert status == 0, err
        assert orjson.loads(out)["backbone"]["decoder"]
    assert call("distill", "--features", tmp_path / "train", "--output-dir", tmp_path / "encoder")[0] == 0
    where = ["--encoder", tmp_path / "encoder", "--features", tmp_path / "test", "--output-dir", tmp_path / "found"]
    status, out, err = call("evaluate", *where, "--train-features", tmp_path / "train", "--json")
    assert status == 0, err
    found = orjson.loads(out)
    assert found["teacher"]["name"] == "imported"
    methods = found["methods"]
    assert methods["influcoder"]["per_query_spearman"] > 0.5 > methods["random"]["per_query_spearman"]
    assert "untrained" in methods
    result = call("evaluate", *where[:4], "--output-dir", tmp_path / "no", "--decoder", work / "decoder")
    refused(result, "imported attribution", "Leave --decoder out")


def test_from_scores_to_the_papers_encoder(work, tmp_path, call):
    status, out, _ = import_(call, work, tmp_path / "train", "--scores", work / "scores.npy")
    assert status == 0
    assert orjson.loads(out)["score_relative_error"] < 1e-5
    result = call("distill", "--features", tmp_path / "train", "--output-dir", tmp_path / "static")
    refused(result, "no decoder's table", "influcoder import", "--decoder", "--recipe paper")
    assert not (tmp_path / "static").exists()
    status, _, err = import_(
        call, work, tmp_path / "other", "--scores", work / "scores.npy", "--decoder", work / "decoder"
    )
    assert status == 0, err
    words = ["--recipe", "paper", "--encoder", tmp_path / "other" / "backbone", "--output-dir", tmp_path / "encoder"]
    assert call("distill", "--features", tmp_path / "train", *words)[0] == 0
    source = ["--query-features", work / "tq.npy", "--pool-features", work / "tp.npy"]
    assert import_(call, work, tmp_path / "test", *source, sides=("tq", "tp"))[0] == 0
    where = ["--encoder", tmp_path / "encoder", "--features", tmp_path / "test", "--output-dir", tmp_path / "found"]
    status, out, err = call("evaluate", *where, "--json")
    assert status == 0, err
    assert orjson.loads(out)["skipped"]["untrained"] == "import the features with --decoder"


def test_import_is_replayed(work, tmp_path, call):
    assert import_(call, work, tmp_path / "out", "--scores", work / "scores.npy")[0] == 0
    before = contents(tmp_path / "out")
    assert call("run", tmp_path / "out" / "config.toml", "--overwrite")[0] == 0
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([], "exactly one of --query-features with --pool-features, --scores"),
        (["--query-features", "q.npy"], "--query-features was given"),
        (["--pool-features", "p.npy"], "--pool-features was given"),
        (["--bergson-pool", "p"], "--bergson-pool was given"),
        (["--scores", "scores.npy", "--pool-features", "p.npy"], "--pool-features and --scores was given"),
        (["--scores", "nowhere.npy"], "nowhere.npy"),
        (["--scores", "q.jsonl"], "expected .npy, .safetensors or .parquet"),
        (["--scores", "nowhere.parquet"], "nowhere.parquet"),
        (["--scores", "scores.npy", "--tensor", "x"], "--tensor"),
        (["--scores", "scores.npy", "--pool-ids", "nowhere.txt"], "nowhere.txt"),
        (["--bergson-queries", "q", "--bergson-pool", "p"], "info.json"),
        (["--bergson-queries", "q", "--bergson-pool", "p", "--tensor", "x"], "Leave --tensor out"),
        (["--query-features", "p.npy", "--pool-features", "q.npy"], "the two are swapped"),
    ],
)
def test_refusals_are_one_line_and_leave_the_folder_alone(work, tmp_path, call, monkeypatch, source, told):
    monkeypatch.chdir(work)
    (tmp_path / "earlier").write_text("precious")
    refused(import_(call, work, tmp_path, *source, "--overwrite"), told)
    assert (tmp_path / "earlier").read_text() == "precious"


def test_output_over_what_is_imported_is_refused(work, tmp_path, call):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "scores.npy", np.load(work / "scores.npy"))
    result = import_(call, work, tmp_path / "in", "--scores", tmp_path / "in" / "scores.npy", "--overwrite")
    refused(result, "is, holds or lies in the input")
    assert (tmp_path / "in" / "scores.npy").exists()


def test_index_of_imported_attribution_is_searched_but_not_verified(work, tmp_path, call):
    source = ["--query-features", work / "q.npy", "--pool-features", work / "p.npy", "--decoder", work / "decoder"]
    assert import_(call, work, tmp_path / "train", *source)[0] == 0
    assert call("distill", "--features", tmp_path / "train", "--output-dir", tmp_path / "encoder")[0] == 0
    words = ["--encoder", tmp_path / "encoder", "--pool", work / "tp.jsonl", "--output-dir", tmp_path / "index"]
    assert call("index", *words)[0] == 0
    asked = ["--index", tmp_path / "index", "--prompt", "the capital ", "--completion", "Paris"]
    assert call("search", *asked)[0] == 0
    refused(call("search", *asked, "--verify", 20, "--decoder", work / "decoder"), "imported attribution")


def test_bergson_from_the_command_line(work, tmp_path, call):
    for name in ("q", "p"):
        rows = torch.from_numpy(np.load(work / f"{name}.npy")).bfloat16().view(torch.int16).numpy()
        save_bergson(tmp_path / name, rows, name="bfloat16")
    source = ["--bergson-queries", tmp_path / "q", "--bergson-pool", tmp_path / "p"]
    status, out, err = import_(call, work, tmp_path / "out", *source)
    assert status == 0, err
    assert orjson.loads(out)["source"] == "bergson"
    expected = torch.from_numpy(np.load(work / "q.npy")).bfloat16().float().numpy()
    np.testing.assert_array_equal(FeaturesFolder(tmp_path / "out").sample.query_features, expected)

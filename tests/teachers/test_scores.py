"""Scores with either axis in rows: told by ids, by shape, or by the user; never guessed at."""

import logging

import numpy as np
import orjson
import pytest

from helpers.foreign_matrices import save_wide
from helpers.sentences import as_rows, sentences, write_jsonl
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.imported import from_features, from_scores

QUERIES, POOL = sentences(6, 1, "q"), sentences(14, 2, "p")
Q, P = [one.id for one in QUERIES], [one.id for one in POOL]
SCORES = np.random.default_rng(0).normal(size=(6, 14))


def influence(found, folder):
    metrics = found.write(folder)
    return FeaturesFolder(folder).sample.influence, metrics


def saved(folder, array, name="s.npy"):
    np.save(folder / name, array)
    return folder / name


def test_pool_in_rows_is_told_by_the_shape_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        found, metrics = influence(from_scores(saved(tmp_path, SCORES.T), QUERIES, POOL), tmp_path / "out")
    assert "14 x 6 scores for 6 queries and 14 pool examples: read with the pool in rows" in caplog.text
    np.testing.assert_allclose(found, SCORES, atol=1e-5)
    assert metrics["scores_transposed"] is True


def test_queries_in_rows_say_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        found, metrics = influence(from_scores(saved(tmp_path, SCORES), QUERIES, POOL), tmp_path / "out")
    assert caplog.text == ""
    np.testing.assert_allclose(found, SCORES, atol=1e-5)
    assert metrics["scores_transposed"] is False


@pytest.mark.parametrize("pool_rows", [True, False])
def test_ids_in_files_belong_to_their_own_axis(tmp_path, pool_rows):
    (tmp_path / "q.txt").write_text("\n".join(Q[::-1]))
    (tmp_path / "p.txt").write_text("\n".join(P[::-1]))
    mixed = SCORES[::-1, ::-1]
    path = saved(tmp_path, mixed.T if pool_rows else mixed)
    ids = {"query_ids": tmp_path / "q.txt", "pool_ids": tmp_path / "p.txt"}
    found, _ = influence(from_scores(path, QUERIES, POOL, **ids), tmp_path / "out")
    np.testing.assert_allclose(found, SCORES, atol=1e-5)


SQUARE = SCORES[:, :6]


@pytest.mark.parametrize("rows", ["queries", "pool"])
def test_square_matrix_is_read_as_told(tmp_path, rows):
    path = saved(tmp_path, SQUARE if rows == "queries" else SQUARE.T)
    with pytest.raises(DataError, match=r"6 x 6 scores .* its rows may be either. Say which with --score-rows"):
        from_scores(path, QUERIES, POOL[:6])
    found, _ = influence(from_scores(path, QUERIES, POOL[:6], rows=rows), tmp_path / "out")
    np.testing.assert_allclose(found, SQUARE, atol=1e-5)


def test_ids_of_each_side_do_not_tell_a_square_matrixs_axes(tmp_path):
    (tmp_path / "q.txt").write_text("\n".join(Q))
    with pytest.raises(DataError, match="its rows may be either"):
        from_scores(saved(tmp_path, SQUARE), QUERIES, POOL[:6], query_ids=tmp_path / "q.txt")


def test_symmetric_matrix_reads_the_same_either_way(tmp_path):
    both = SQUARE + SQUARE.T
    found, _ = influence(from_scores(saved(tmp_path, both), QUERIES, POOL[:6]), tmp_path / "out")
    np.testing.assert_allclose(found, both, atol=1e-5)


@pytest.mark.parametrize("pool", [POOL, POOL[:6]], ids=["oblong", "square"])
def test_ids_in_a_table_tell_the_axes(tmp_path, pool):
    ids, scores = [one.id for one in pool], SCORES[:, : len(pool)]
    save_wide(tmp_path / "s.parquet", scores.T[::-1], ids[::-1], Q)
    found, metrics = influence(from_scores(tmp_path / "s.parquet", QUERIES, pool), tmp_path / "out")
    np.testing.assert_allclose(found, scores, atol=1e-5)
    assert metrics["scores_transposed"]


def test_same_examples_on_both_sides_do_not_tell_the_axes(tmp_path):
    save_wide(tmp_path / "s.parquet", SQUARE, Q, Q)
    with pytest.raises(DataError, match="its rows may be either"):
        from_scores(tmp_path / "s.parquet", QUERIES, QUERIES)
    found, _ = influence(from_scores(tmp_path / "s.parquet", QUERIES, QUERIES, rows="pool"), tmp_path / "out")
    np.testing.assert_allclose(found, SQUARE.T, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 13), (14, 7), (3, 3)])
def test_shapes_that_fit_neither_way_are_refused(tmp_path, shape):
    with pytest.raises(DataError, match=r"query vectors for 6 query examples|pool vectors for 14 pool examples"):
        from_scores(saved(tmp_path, np.ones(shape)), QUERIES, POOL)


def test_reading_otherwise_is_another_import(tmp_path):
    path = saved(tmp_path, SQUARE)
    from_scores(path, QUERIES, POOL[:6], rows="queries").write(tmp_path / "out")
    (tmp_path / "out" / "pool" / "manifest.json").unlink()
    with pytest.raises(Exception, match="scores_transposed"):
        from_scores(path, QUERIES, POOL[:6], rows="pool").write(tmp_path / "out")


# Features


def features(folder, first, second, queries=QUERIES, pool=POOL):
    return from_features(saved(folder, first, "q.npy"), saved(folder, second, "p.npy"), queries, pool)


ONE, OTHER = np.ones((6, 9)), np.ones((14, 9))


def test_features_with_an_example_a_column_are_said(tmp_path):
    with pytest.raises(DataError, match=r"q\.npy: 9 x 6 numbers for 6 query examples: its columns are .*array\.T"):
        features(tmp_path, ONE.T, OTHER.T)
    with pytest.raises(DataError, match=r"p\.npy: 9 x 14 numbers for 14 pool examples: its columns"):
        features(tmp_path, ONE, OTHER.T)


def test_swapped_features_are_said(tmp_path):
    with pytest.raises(DataError, match=r"q\.npy has 14 vectors, .* the two are swapped"):
        features(tmp_path, OTHER, ONE)


def test_features_that_may_lie_either_way_are_refused(tmp_path):
    square = np.arange(36.0).reshape(6, 6)
    with pytest.raises(DataError, match=r"6 x 6 for as many examples: rows or columns may be these"):
        features(tmp_path, square, square, pool=POOL[:6])
    assert features(tmp_path, square, np.ones((14, 6))).write(tmp_path / "out")["width"] == 6


def test_one_example_and_one_number_lie_one_way(tmp_path):
    one = [Example("a", "x", "y")]
    assert features(tmp_path, np.ones((1, 1)), np.ones((1, 1)), one, one).write(tmp_path / "out")["width"] == 1


# The command line


def test_command_line_says_and_takes_the_axis(tmp_path, call):
    for name, examples in (("q", QUERIES), ("p", POOL[:6])):
        write_jsonl(tmp_path / f"{name}.jsonl", as_rows(examples))
    path = saved(tmp_path, SQUARE.T)
    files = ["import", "--queries", tmp_path / "q.jsonl", "--pool", tmp_path / "p.jsonl", "--scores", path]
    status, _, err = call(*files, "--output-dir", tmp_path / "out")
    assert status == 1
    assert "--score-rows queries or --score-rows pool" in err
    status, out, err = call(*files, "--score-rows", "pool", "--output-dir", tmp_path / "out", "--json")
    assert status == 0, err
    assert orjson.loads(out)["scores_transposed"] is True
    np.testing.assert_allclose(FeaturesFolder(tmp_path / "out").sample.influence, SQUARE, atol=1e-5)


def test_axis_without_a_matrix_is_refused(tmp_path):
    from influcoder.cli.flags import Attribution

    with pytest.raises(ConfigError, match="--score-rows says how to read --scores, which was not given"):
        Attribution(query_features=tmp_path, pool_features=tmp_path, score_rows="pool").read(QUERIES, POOL)

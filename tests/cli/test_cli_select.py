"""`influcoder select`: rules, what it writes, and another rule on the same scores."""

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from helpers.commands import refused
from influcoder.attribution.selection import Selection
from influcoder.attribution.selection_folder import read_record
from influcoder.data.reading import read_examples
from influcoder.errors import StoreCorrupt
from influcoder.model.decoder import Decoder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of


@pytest.fixture
def selected(chain, call, tmp_path):
    """Runs `select`: (its numbers, its folder)."""

    def run(*words, name="selected", where=True):
        asked = ["--index", chain / "index", "--queries", chain / "queries.jsonl"] if where else []
        status, out, err = call("select", *asked, *words, "--output-dir", tmp_path / name, "--json")
        assert status == 0, err
        return orjson.loads(out), tmp_path / name

    return run


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_are_kept_in_their_own_columns(chain, selected):
    found, folder = selected("--rows", 7, "--cap", "source=60%")
    pool = {row["id"]: row for row in lines(chain / "pool.jsonl")}
    kept = lines(folder / "kept.jsonl")
    assert [row == pool[row["id"]] for row in kept] == [True] * 7
    assert [row["id"] for row in kept] == Selection.load(folder).kept_ids
    assert found["by"]["source"]["web"]["kept"] <= 4
    assert sum(found["reasons"].values()) == found["rows"] == 40
    assert found == orjson.loads((folder / "metrics.json").read_bytes())


@pytest.mark.parametrize("form", ["parquet", "dataset", "none"])
def test_forms_hold_the_same_rows(selected, form):
    _, plain = selected("--rows", 5, name="plain")
    _, folder = selected("--rows", 5, "--format", form, name="other")
    rows = lines(plain / "kept.jsonl")
    if form == "parquet":
        assert pq.read_table(folder / "kept.parquet").to_pylist() == rows
    elif form == "dataset":
        import datasets

        assert list(datasets.load_from_disk(str(folder / "kept"))) == rows
    else:
        assert not list(folder.glob("kept*"))
    assert read_record(folder)["kept"] == 5


def test_a_contrast_takes_off_what_a_control_explains(chain, selected):
    scores = {}
    for name, words in {
        "plain": [],
        "control": ["--queries", chain / "control.jsonl"],
        "contrast": ["--against", chain / "control.jsonl"],
    }.items():
        queries = [] if name == "control" else ["--queries", chain / "queries.jsonl"]
        asked = ["--index", chain / "index", *queries, *words]
        scores[name] = Selection.load(selected("--top", 0.1, *asked, where=False, name=name)[1]).scores
    assert scores["contrast"] == pytest.approx(scores["plain"] - scores["control"], abs=1e-4)


def test_tokens_are_a_budget(selected):
    found, folder = selected("--tokens", 60)
    assert 40 < found["tokens"] <= 60
    assert pq.read_table(folder / "selection.parquet", columns=["tokens"])["tokens"].to_pylist()[0] > 1


def test_another_rule_needs_no_index_of_scores(selected):
    _, first = selected("--rows", 7, "--by", "round-robin")
    found, second = selected("--from", first, "--drop", "50%", name="second", where=False)
    assert found["rule"] == "all but the top 0.5 of the rows by turns of the queries"
    assert Selection.load(second).table()["rank"] == Selection.load(first).table()["rank"]
    _, third = selected("--from", second, "--rows", 7, name="third", where=False)
    assert Selection.load(third).kept_ids == Selection.load(first).kept_ids


def test_a_selection_is_replayed(selected, call):
    _, first = selected("--rows", 9)
    _, folder = selected("--from", first, "--rows", 7, "--distinct", 0.8, name="other", where=False)
    before = (folder / "selection.parquet").read_bytes()
    status, _, err = call("run", folder / "config.toml", "--overwrite")
    assert status == 0, err
    assert (folder / "selection.parquet").read_bytes() == before


def test_the_card_says_what_was_measured(selected):
    card = (selected("--rows", 7)[1] / "README.md").read_text()
    assert "7 of 40 rows are kept: top 7 rows by score" in card
    assert "| web |" in card
    assert "None: no model was trained without the rows" in card
    assert "| per_query_spearman |" in card
    assert "influcoder run config.toml --overwrite" in card


def test_a_changed_file_is_seen(selected):
    _, folder = selected("--rows", 7)
    path = folder / "kept.jsonl"
    path.write_bytes(path.read_bytes()[:-2] + b" \n")
    with pytest.raises(StoreCorrupt, match=r"kept\.jsonl: missing, or its bytes"):
        read_record(folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rows", "5"], "what is selected from? Give --index and --queries, or --from"),
        (["--from", "selection", "--by", "max", "--rows", "5"], "leave --index, --queries, --against, --by"),
        (["--from", "nowhere", "--rows", "5"], "cannot be read as a selection"),
    ],
)
def test_what_does_not_go_together(call, tmp_path, words, told):
    refused(call("select", *words, "--output-dir", tmp_path / "out"), told)


def test_tokens_that_push_away_are_masked(chain, selected, call):
    words = ["--rows", 6, "--mask-tokens", "25%", "--decoder", chain / "decoder"]
    found, folder = selected(*words)
    kept = lines(folder / "kept.jsonl")
    masks = [row.pop("influcoder_token_mask") for row in kept]
    assert [row["id"] for row in kept] == Selection.load(folder).kept_ids
    decoder = Decoder.load(chain / "decoder", max_length=96)
    examples = read_examples(kept)
    assert [len(mask) for mask in masks] == [one.targets for one in decoder.tokenise(examples)]
    # By hand: the parts of every token in the mean influence on the queries, of which the lowest quarter is masked.
    teacher = teacher_of(InfluenceEncoder.load(chain / "encoder"), decoder)
    queries = teacher.features(read_examples(chain / "queries.jsonl"), "query").vectors.mean(axis=0)
    shares = np.concatenate([one[0] for one in teacher.token_shares(examples, "pool", [queries[None]] * 6)])
    flat = np.array([one for mask in masks for one in mask])
    assert found["masked_tokens"] == {"masked": int((flat == 0).sum()), "of": len(flat)}
    assert 0 < (flat == 0).sum() <= len(flat) // 4
    assert shares[flat == 0].max() < 0
    assert shares[flat == 0].max() <= shares[flat == 1].min() or shares[flat == 1].min() >= 0
    _, other = selected(*words, "--unwanted", "--format", "parquet", name="other")
    assert "influcoder_token_mask" in pq.read_table(other / "kept.parquet").column_names
    assert call("audit", folder)[0] == 0


@pytest.mark.parametrize(("words", "told"), [([], "--decoder"), (["--decoder", "DECODER"], "--mask-tokens is 2.0")])
def test_masks_that_are_none(chain, call, tmp_path, words, told):
    asked = ["--index", chain / "index", "--queries", chain / "queries.jsonl", "--rows", 5, "--mask-tokens", "200%"]
    words = [chain / "decoder" if word == "DECODER" else word for word in words]
    refused(call("select", *asked, *words, "--output-dir", tmp_path / "out"), told)

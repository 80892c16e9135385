"""The verbs as functions: what they write, and what they refuse without harm."""

from dataclasses import replace

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from helpers.folders import contents
from helpers.sentences import sentences
from helpers.tiny import save_decoder, tiny_decoder
from influcoder.data.examples import normalised
from influcoder.errors import ConfigError, DataError, InflucoderError, ModelError, StoreError, StoreMismatch
from influcoder.indexes.index import Index
from influcoder.maths.metrics import METRICS
from influcoder.model.decoder import Decoder
from influcoder.provenance import StudentRecord
from influcoder.report.summary import query_summary
from influcoder.store.output_folder import Folder
from influcoder.store.store import Store
from influcoder.student import distill as student_distill
from influcoder.student.distill import distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.sample import refuse_trained_on
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import features as feature_verbs
from influcoder.verbs import index as index_verbs
from influcoder.verbs import search as search_verb
from influcoder.verbs import select as select_verb
from influcoder.verbs.distill import distill
from influcoder.verbs.evaluate import evaluate

SETTINGS = TeacherSettings(rank=4, width=512, precision="fp32")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def decoder(work, tokenizer):
    return Decoder.load(save_decoder(work / "decoder", tokenizer), device="cpu")


def write_features(decoder, folder, seed, settings=SETTINGS):
    queries, pool = sentences(30, seed, f"q{seed}-"), sentences(60, seed + 1, f"p{seed}-")
    return feature_verbs.features(decoder, queries, pool, Folder(folder), settings)


@pytest.fixture(scope="module")
def train(work, decoder):
    write_features(decoder, work / "train", 1)
    return work / "train"


@pytest.fixture(scope="module")
def test_features(work, decoder):
    write_features(decoder, work / "test", 7)
    return work / "test"


@pytest.fixture(scope="module")
def distilled(work, train):
    distill(FeaturesFolder(train), Folder(work / "encoder"))
    return work / "encoder"


@pytest.fixture(scope="module")
def built(work, distilled):
    index_verbs.index(InfluenceEncoder.load(distilled), sentences(25, 40, "row"), Folder(work / "index"))
    return Index(work / "index")


@pytest.fixture(scope="module")
def paper(work, train):
    distill(FeaturesFolder(train), Folder(work / "paper"), recipe="paper", backbone=str(train / "backbone"))
    return work / "paper"


def numbers(folder):
    return orjson.loads((folder / "metrics.json").read_bytes())


def test_features_write_both_sides_and_the_table(train, decoder):
    found = numbers(train)
    assert (found["queries"], found["pool"]) == (30, 60)
    assert found["teacher"]["decoder"]["decoder"] == decoder.fingerprint.decoder
    assert {name for name in found if name.endswith("_cut")} == {
        f"{side}_{part}_cut" for side in ("queries", "pool") for part in ("prompt", "completion")
    }
    sample = FeaturesFolder(train).sample
    assert (len(sample.queries), len(sample.pool)) == (30, 60)
    np.testing.assert_allclose(np.linalg.norm(sample.pool_features, axis=1), 1, atol=1e-2)
    assert sample.queries == sentences(30, 1, "q1-")


def test_distilling_splits_both_sides(distilled):
    splits = numbers(distilled)["splits"]
    assert splits == {"train_queries": 26, "train_pool": 51, "validation_queries": 4, "validation_pool": 9}
    encoder = InfluenceEncoder.load(distilled)
    assert numbers(distilled)["validation"] == pytest.approx(encoder.measured)
    assert encoder.provenance.student == StudentRecord("static", 0)


def test_training_rows_are_remembered(distilled, train):
    table, sample = pq.read_table(distilled / "training.parquet"), FeaturesFolder(train).sample
    assert table["id"].to_pylist() == [one.id for one in (*sample.queries, *sample.pool)]


def test_same_seed_same_files(train, distilled, tmp_path):
    distill(FeaturesFolder(train), Folder(tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(distilled)


def test_another_seed_other_files(train, distilled, tmp_path):
    distill(FeaturesFolder(train), Folder(tmp_path / "other"), seed=1)
    assert InfluenceEncoder.load(tmp_path / "other").fingerprint != InfluenceEncoder.load(distilled).fingerprint


def test_papers_recipe_makes_an_encoder_that_loads(paper, train):
    encoder = InfluenceEncoder.load(paper)
    assert (encoder.tier, numbers(paper)["tier"]) == ("transformer", "transformer")
    assert encoder.provenance.student.recipe == "paper"
    assert set(numbers(paper)["validation"]) == set(METRICS)


def test_index_counts_its_rows(built):
    found = numbers(built.folder)
    assert found.pop("seconds") > 0
    assert found == {
        "rows": 25,
        "dim": built.encoder.dim,
        "code": "float16",
        "bytes_per_example": 2 * built.encoder.dim,
    }


def search(built, **options):
    asked = {"k": 5, "opponents": False, "verify": 0, "decoder": None} | options
    return search_verb.search(built, sentences(2, 50, "asked"), **asked)


def test_search_with_and_without_the_decoder(built, decoder):
    assert [len(hits) for hits in search(built)] == [5, 5]
    verified = search(built, verify=10, decoder=decoder)
    for hits in verified:
        exact = [hit.exact for hit in hits]
        assert exact == sorted(exact, reverse=True)


def test_papers_encoder_is_verified_as_well(paper, decoder, tmp_path):
    index_verbs.index(InfluenceEncoder.load(paper), sentences(25, 40, "row"), Folder(tmp_path / "index"))
    for hits in search(Index(tmp_path / "index"), verify=10, decoder=decoder):
        assert all(hit.exact is not None for hit in hits)


def test_another_decoder_is_refused(built, tokenizer, chat_tokenizer):
    other = tiny_decoder("llama", tokenizer, seed=9)
    with pytest.raises(StoreMismatch, match="distilled from a decoder with decoder"):
        search(built, verify=10, decoder=other)
    other = tiny_decoder("llama", chat_tokenizer)
    with pytest.raises(StoreMismatch, match="distilled from a decoder with"):
        search(built, decoder=other)


def test_teacher_is_made_as_it_was(built, decoder):
    assert teacher_of(built.encoder, decoder).settings == SETTINGS


def select(built, folder, overwrite=False, **rule):
    selection = select_verb.select(built, sentences(4, 50, "asked"), **rule)
    return select_verb.write_selection(selection, Folder(folder, overwrite=overwrite))


@pytest.mark.parametrize(
    ("rule", "kept"), [({"top": 0.2}, 5), ({"drop": 0.2}, 20), ({"threshold": -1e9}, 25), ({"threshold": 1e9}, 0)]
)
def test_selection_by_each_rule(built, tmp_path, rule, kept):
    found = select(built, tmp_path / "selected", **rule)
    assert (found["rows"], found["kept"]) == (25, kept)
    table = pq.read_table(tmp_path / "selected" / "selection.parquet")
    assert sum(table["kept"].to_pylist()) == kept
    assert table["id"].to_pylist() == built.ids


def test_selection_scores_are_mean_influences(built, tmp_path):
    select(built, tmp_path / "selected", top=0.2)
    expected = built.scores(built.encoder.encode_query(sentences(4, 50, "asked"))).mean(axis=0)
    found = pq.read_table(tmp_path / "selected" / "selection.parquet")["score"].to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("rule", [{}, {"top": 0.1, "drop": 0.1}, {"top": 0.1, "threshold": 0.0}])
def test_exactly_one_rule(built, tmp_path, rule):
    with pytest.raises(ConfigError, match="exactly one of --top, --drop, --threshold"):
        select(built, tmp_path / "selected", **rule)
    assert not (tmp_path / "selected").exists()


@pytest.mark.parametrize("rule", [{"top": 2.0}, {"drop": 0.0}, {"threshold": float("nan")}])
def test_bad_rule_leaves_the_folder_alone(built, tmp_path, rule):
    select(built, tmp_path, top=0.2)
    before = contents(tmp_path)
    with pytest.raises(ConfigError):
        select(built, tmp_path, overwrite=True, **rule)
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def evaluated(work, distilled, test_features, train, decoder):
    found = evaluate(
        InfluenceEncoder.load(distilled),
        FeaturesFolder(test_features),
        Folder(work / "evaluated"),
        train=FeaturesFolder(train),
        decoder=decoder,
        seed=3,
    )
    assert orjson.loads(orjson.dumps(found)) == numbers(work / "evaluated")
    return found


def test_evaluation_contract(evaluated):
    assert evaluated["schema"] == 1
    assert evaluated["seeds"] == [3]
    assert evaluated["splits"] == {"test_queries": 30, "test_pool": 60, "overlap": 0}
    assert evaluated["teacher"]["reliability"] == evaluated["methods"]["exact"]["per_query_spearman"]
    for values in evaluated["methods"].values():
        assert {*METRICS, "interval_95", "ms_per_example", "bytes_per_example"} <= set(values)


def test_evaluation_runs_every_rival(evaluated):
    expected = {"influcoder", "influcoder-exact-query", "exact", "surface", "untrained", "tfidf", "bm25", "random"}
    assert expected <= set(evaluated["methods"]) | set(evaluated["skipped"])
    assert expected - set(evaluated["methods"]) == set()


def test_two_seeds_of_the_teacher_agree_best(evaluated):
    best = max(evaluated["methods"], key=lambda name: evaluated["methods"][name]["per_query_spearman"])
    assert best == "exact"


def test_without_decoder_and_training_data_rivals_are_skipped(distilled, test_features, tmp_path):
    found = evaluate(InfluenceEncoder.load(distilled), FeaturesFolder(test_features), Folder(tmp_path / "out"))
    assert {"exact", "influcoder-exact-query", "surface"} <= set(found["skipped"])
    assert not set(found["skipped"]) & set(found["methods"])
    assert found["teacher"]["reliability"] is None


def test_papers_encoder_is_evaluated(paper, test_features, train, decoder, tmp_path):
    found = evaluate(
        InfluenceEncoder.load(paper),
        FeaturesFolder(test_features),
        Folder(tmp_path / "out"),
        train=FeaturesFolder(train),
        decoder=decoder,
    )
    assert "influcoder-exact-query" not in found["methods"]
    assert "exact" in found["methods"]


def test_training_data_is_refused(distilled, train, tmp_path):
    with pytest.raises(DataError, match="90 test examples were seen in training or model selection"):
        evaluate(InfluenceEncoder.load(distilled), FeaturesFolder(train), Folder(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_one_training_row_in_other_words_case_is_refused(distilled, decoder, train, tmp_path):
    seen = FeaturesFolder(train).sample.pool[5]
    loud = replace(seen, id="new", prompt=seen.prompt.upper(), completion=f" {seen.completion.upper()}\n")
    pool = [*sentences(20, 70, "p"), loud]
    feature_verbs.features(decoder, sentences(6, 71, "q"), pool, Folder(tmp_path / "test"), SETTINGS)
    with pytest.raises(DataError, match=r"1 test examples were seen .* 'new' among them"):
        evaluate(InfluenceEncoder.load(distilled), FeaturesFolder(tmp_path / "test"), Folder(tmp_path / "out"))


def test_encoder_that_tells_no_training_data_is_refused(distilled, test_features, tmp_path):
    InfluenceEncoder.load(distilled).save(tmp_path / "bare")
    with pytest.raises(DataError, match=r"training\.parquet"):
        evaluate(InfluenceEncoder.load(tmp_path / "bare"), FeaturesFolder(test_features), Folder(tmp_path / "out"))


def test_evaluation_with_another_decoder_is_refused(distilled, test_features, tokenizer, tmp_path):
    """Its agreement with itself would be shown as the ceiling of another model's influences."""
    other = tiny_decoder("llama", tokenizer, seed=9)
    with pytest.raises(StoreMismatch, match=r"test were computed from a decoder with decoder \w{12}, .* has \w{12}"):
        evaluate(
            InfluenceEncoder.load(distilled), FeaturesFolder(test_features), Folder(tmp_path / "out"), decoder=other
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"recipe": "static", "backbone": "somewhere"}, "--recipe paper"), ({"recipe": "paper"}, "--encoder")],
)
def test_recipe_and_backbone_must_fit(train, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        distill(FeaturesFolder(train), Folder(tmp_path / "out"), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "static", "backbone": "somewhere"},
        {"recipe": "paper"},
        {"recipe": "magic"},
        {"seed": -1},
        {"seed": 2**63},
        {"recipe": "paper", "backbone": "/nowhere"},
    ],
)
def test_refused_recipe_does_not_empty_the_folder(train, tmp_path, options):
    (tmp_path / "earlier").write_text("precious")
    with pytest.raises(InflucoderError):
        distill(FeaturesFolder(train), Folder(tmp_path, overwrite=True), **options)
    assert (tmp_path / "earlier").read_text() == "precious"


def test_backbone_that_is_none(train, tmp_path):
    with pytest.raises(InflucoderError, match="nowhere"):
        distill(FeaturesFolder(train), Folder(tmp_path / "out"), recipe="paper", backbone=str(tmp_path / "nowhere"))


def test_folder_in_use_is_refused(train, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not empty"):
        distill(FeaturesFolder(train), Folder(tmp_path))


def test_features_are_resumed(decoder, train, tmp_path, monkeypatch):
    folder = tmp_path / "features"
    whole = feature_verbs.write_decoder_tables
    monkeypatch.setattr(feature_verbs, "write_decoder_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_features(decoder, folder, 1)
    monkeypatch.setattr(feature_verbs, "write_decoder_tables", whole)
    queries, pool = sentences(30, 1, "q1-"), sentences(60, 2, "p1-")
    feature_verbs.features(decoder, queries, pool, Folder(folder, resume=True), SETTINGS)
    assert contents(folder) == contents(train)


def test_summary_of_a_query(built):
    query = sentences(1, 50, "asked")[0]
    vector, references = (built.encoder.encode_query(part) for part in ([query], sentences(6, 80, "null")))
    hits = {"proponents": search(built)[0], "opponents": search(built, opponents=True)[0]}
    found = query_summary(query, "an answer", built, vector, hits, {hits["proponents"][0].row: True}, references)
    assert (found["id"], found["prompt"], found["answer"]) == (query.id, query.prompt, "an answer")
    assert sum(found["histogram"]["counts"]) == 25
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1
    low, high = found["null_band"]
    assert low < high
    assert [hit["rank"] for hit in found["opponents"]] == [1, 2, 3, 4, 5]
    assert [hit["planted"] for hit in found["proponents"]][:2] == [True, False]
    assert (found["expected_agreement"] is None, found["certified"]) == (hits["proponents"].trust is None, None)
    assert orjson.dumps(found)


@pytest.mark.parametrize("recipe", ["forward", "short"])
def test_tiers_that_run_the_decoder_from_features_to_search(decoder, train, tmp_path, recipe):
    found = distill(FeaturesFolder(train), Folder(tmp_path / "e"), recipe=recipe, decoder=decoder)
    assert found["tier"] == recipe
    encoder = InfluenceEncoder.load(tmp_path / "e", decoder=decoder)
    pool = sentences(8, 70, "x")
    index_verbs.index(encoder, pool, Folder(tmp_path / "i"))
    asked = sentences(1, 71, "q")
    opened = Index(tmp_path / "i", decoder=decoder)
    hits = search_verb.search(opened, asked, k=3, opponents=False, verify=0, decoder=decoder)
    assert len(hits[0]) == 3
    with pytest.raises(ModelError, match="give it with --decoder"):
        search_verb.search(Index(tmp_path / "i"), asked, k=3, opponents=False, verify=0, decoder=None)


@pytest.mark.parametrize(
    ("recipe", "with_decoder"), [("forward", False), ("short", False), ("static", True), ("paper", True)]
)
def test_decoder_goes_with_the_recipes_that_run_it_alone(decoder, train, tmp_path, recipe, with_decoder):
    backbone = "somewhere" if recipe == "paper" else None
    with pytest.raises(ConfigError, match="give --decoder with one of them"):
        distill(
            FeaturesFolder(train),
            Folder(tmp_path / "e"),
            recipe=recipe,
            backbone=backbone,
            decoder=decoder if with_decoder else None,
        )


def test_another_seed_of_the_student_leaves_its_teacher_as_it_was(decoder, train, tmp_path):
    """Its exact queries would live in another space."""
    distill(FeaturesFolder(train), Folder(tmp_path / "e"), seed=5)
    encoder = InfluenceEncoder.load(tmp_path / "e")
    assert encoder.provenance.student.seed == 5
    of_features = Store(train / "pool").provenance.teacher.settings["seed"]
    assert teacher_of(encoder, decoder).settings.seed == of_features != 5


@pytest.mark.parametrize("recipe", ["static", "forward"])
def test_from_features_and_unlabelled_files_to_an_encoder(decoder, train, tmp_path, recipe):
    known = FeaturesFolder(train).sample
    asked, pool = sentences(4, 90, "asked"), [*sentences(30, 91, "more"), *known.pool[:5]]
    found = distill(
        FeaturesFolder(train), Folder(tmp_path / "e"), recipe=recipe, decoder=decoder, unlabelled=(asked, pool)
    )
    assert found["tier"] == recipe
    assert (found["splits"]["pseudo_queries"], found["splits"]["pseudo_pool"]) == (4, 30)
    encoder = InfluenceEncoder.load(tmp_path / "e", decoder=decoder if recipe == "forward" else None)
    assert encoder.provenance.student.pseudo_labels_by == "short"
    assert np.isfinite(encoder.encode_pool(pool)).all()
    seen = set(pq.read_table(tmp_path / "e" / "training.parquet")["text"].to_pylist())
    assert {normalised(one) for one in (*asked, *pool)} <= seen
    with pytest.raises(DataError, match="seen in training or model selection"):
        refuse_trained_on(tmp_path / "e", replace(known, queries=asked, pool=[]))


def test_labels_of_nothing_new_are_refused(decoder, train, tmp_path):
    known = FeaturesFolder(train).sample
    with pytest.raises(ConfigError, match="train already: nothing is left to label"):
        distill(FeaturesFolder(train), Folder(tmp_path / "e"), decoder=decoder, unlabelled=([], known.pool[:5]))


def test_features_of_checkpoints_have_no_short_tier(decoder, train, tmp_path, monkeypatch):
    features = FeaturesFolder(train)
    made = features.provenance
    made = replace(made, teacher=replace(made.teacher, checkpoints=[made.decoder, made.decoder]))
    monkeypatch.setattr(FeaturesFolder, "provenance", made)
    with pytest.raises(ConfigError, match="gradients of one model"):
        distill(features, Folder(tmp_path / "e"), recipe="short", decoder=decoder)


def test_surface_is_not_fitted_on_the_test(distilled, test_features, tmp_path):
    with pytest.raises(DataError, match="90 test examples were seen in training"):
        evaluate(
            InfluenceEncoder.load(distilled),
            FeaturesFolder(test_features),
            Folder(tmp_path / "out"),
            train=FeaturesFolder(test_features),
        )


def test_who_labels_has_not_seen_what_is_chosen_by(decoder, train, tmp_path, monkeypatch):
    made, unlabelled = [], ([], sentences(20, 93, "more"))

    def noted(*given, **more):
        made.append((more["effort"].backward, more.get("refit", True)))
        return distill_static(*given, **more)

    monkeypatch.setattr(student_distill, "distill_static", noted)
    distill(FeaturesFolder(train), Folder(tmp_path / "e"), decoder=decoder, unlabelled=unlabelled)
    assert made == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("recipe", "with_decoder", "message"),
    [
        ("static", False, "give --decoder with one of them"),
        ("short", True, "goes with --recipe static or forward"),
        ("paper", True, "goes with --recipe static or forward"),
    ],
)
def test_recipes_that_take_no_labels(decoder, train, tmp_path, recipe, with_decoder, message):
    backbone = "somewhere" if recipe == "paper" else None
    with pytest.raises(ConfigError, match=message):
        distill(
            FeaturesFolder(train),
            Folder(tmp_path / "e"),
            recipe=recipe,
            backbone=backbone,
            decoder=decoder if with_decoder else None,
            unlabelled=([], sentences(5, 92, "more")),
        )

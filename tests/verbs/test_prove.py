"""The verb `prove`: what it writes, what it goes on with, what it refuses."""

import orjson
import pytest

import influcoder
from helpers.folders import contents
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder, tiny_decoder
from helpers.train_commands import train_command
from influcoder.errors import ConfigError, DataError, StoreCorrupt, StoreError, StoreMismatch
from influcoder.evaluation.proof import FineTuning
from influcoder.indexes import original_rows as kept_rows
from influcoder.indexes.index import Index
from influcoder.model.finetune import FinetuneSettings
from influcoder.store.output_folder import Folder
from influcoder.verbs import prove as verb

POOL = [
    {"id": row["id"], "instruction": row["prompt"], "context": "", "response": row["completion"], "kind": "a"}
    for row in as_rows(sentences(40, 2, "p"))
]
QUERIES = [
    {"id": row["id"], "question": row["prompt"], "answer": row["completion"]} for row in as_rows(sentences(4, 9, "q"))
]
QUICK = {"remove": 6, "seeds": 2, "epochs": 1}


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    made = influcoder.features(
        folder / "decoder",
        sentences(12, 1, "tq"),
        sentences(30, 5, "tp"),
        folder / "features",
        rank=4,
        width=256,
        max_length=96,
    )
    influcoder.index(influcoder.distill(made, folder / "encoder"), POOL, folder / "index")
    return folder


@pytest.fixture(scope="module")
def proved(work):
    return influcoder.prove(work / "index", QUERIES, work / "proof", decoder=work / "decoder", **QUICK)


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_what_is_written(work, proved):
    folder = work / "proof"
    assert proved == orjson.loads((folder / "metrics.json").read_bytes())
    assert (proved["schema"], proved["removed"], proved["queries"], proved["pool"]) == (1, 6, 4, 40)
    assert list(proved["conditions"]) == ["all", "found", "random", "tfidf"]
    assert proved["proof"] == {name: proved["conditions"][name]["changed"] for name in ("found", "random", "tfidf")}
    answers = lines(folder / "answers.jsonl")
    assert [(row["id"], row["seed"]) for row in answers] == [(f"q{n}", seed) for n in range(4) for seed in (0, 1)]
    assert all(list(row["answers"]) == list(row["losses"]) == list(proved["conditions"]) for row in answers)
    losses = [row["losses"]["found"] for row in answers]
    assert sum(losses) / len(losses) == pytest.approx(proved["conditions"]["found"]["loss"])


def test_removed_rows_stand_in_the_pools_own_columns(work, proved):
    hits = influcoder.search(work / "index", QUERIES, k=6)
    best = list(dict.fromkeys(one[rank].example.id for rank in range(6) for one in hits))[:6]
    removed = lines(work / "proof/removed/found-0.jsonl")
    assert [row["id"] for row in removed] == best
    assert all(row in POOL for row in removed)
    assert (work / "proof/removed/found-0.jsonl").read_bytes() == (work / "proof/removed/found-1.jsonl").read_bytes()
    drawn = [{row["id"] for row in lines(work / f"proof/removed/random-{seed}.jsonl")} for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert not (drawn[0] | drawn[1]) & set(best)


def test_a_decoder_whose_gradients_search(work, tmp_path, monkeypatch):
    """--verify alone searches with the decoder that is trained; it must be the encoder's."""
    seen = []
    search = verb.removals
    monkeypatch.setattr(
        verb, "removals", lambda *given, **named: seen.append(named["teacher"]) or search(*given, **named)
    )
    base = influcoder.Decoder.load(work / "decoder", max_length=96, device="cpu")
    options = QUICK | {"controls": [], "seeds": 1}
    influcoder.prove(work / "index", QUERIES, tmp_path / "a", decoder=base, verify=8, **options)
    influcoder.prove(work / "index", QUERIES, tmp_path / "b", decoder=base, search_decoder=work / "decoder", **options)
    influcoder.prove(work / "index", QUERIES, tmp_path / "c", decoder=base, **options)
    assert seen[0].decoder is base
    assert seen[1].decoder.fingerprint == base.fingerprint
    assert seen[2] is None
    other = tiny_decoder("llama", base.tokenizer, seed=3)
    with pytest.raises(StoreMismatch):
        influcoder.prove(work / "index", QUERIES, tmp_path / "d", decoder=other, verify=8, **options)


NAMED = ["p7", "p3", "p19"]


def test_rows_that_are_named(work, tmp_path, monkeypatch):
    """Ids, a file of them and a selection leave out the same rows, and nothing is searched for."""
    monkeypatch.setattr(verb, "removals", None)
    options = {"decoder": work / "decoder", "seeds": 1, "epochs": 1}
    found = influcoder.prove(work / "index", QUERIES, tmp_path / "ids", rows=NAMED, **options)
    assert list(found["conditions"]) == ["all", "named", "random", "tfidf"]
    assert found["removed"] == 3
    removed = lines(tmp_path / "ids/removed/named-0.jsonl")
    assert [row["id"] for row in removed] == NAMED
    assert all(row in POOL for row in removed)
    drawn = {row["id"] for row in lines(tmp_path / "ids/removed/random-0.jsonl")}
    assert len(drawn) == 3
    assert not drawn & set(NAMED)
    (tmp_path / "ids.txt").write_text("p7\np3\np19\np3\n")
    (tmp_path / "ids.json").write_text('["p7", "p3", "p19"]')
    selection = influcoder.select(work / "index", QUERIES, rows=37)
    left_out = [name for name, kept in zip(selection.ids, selection.is_kept, strict=True) if not kept]
    selection.save(tmp_path / "selection.parquet")
    for rows in (tmp_path / "ids.txt", tmp_path / "ids.json"):
        again = influcoder.prove(work / "index", QUERIES, tmp_path / "ids", rows=rows, resume=True, **options)
        assert again == found
    options["controls"] = []
    for number, rows in enumerate((selection, tmp_path / "selection.parquet")):
        influcoder.prove(work / "index", QUERIES, tmp_path / f"selection-{number}", rows=rows, **options)
        assert [row["id"] for row in lines(tmp_path / f"selection-{number}/removed/named-0.jsonl")] == left_out
    with pytest.raises(StoreMismatch, match="without other rows than are now to be removed"):
        influcoder.prove(work / "index", QUERIES, tmp_path / "ids", rows=["p1"], resume=True, **options)


def test_a_selection_of_other_rows_names_none_of_these(work, tmp_path):
    influcoder.index(influcoder.InfluenceEncoder.load(work / "encoder"), POOL[:30], tmp_path / "other")
    selection = influcoder.select(tmp_path / "other", QUERIES, rows=20)
    with pytest.raises(StoreMismatch, match="Select again"):
        influcoder.prove(work / "index", QUERIES, tmp_path / "a", rows=selection, decoder=work / "decoder")


def test_goes_on_with_what_is_there(work, proved, tmp_path, monkeypatch):
    folder = tmp_path / "proof"
    options = {"decoder": work / "decoder", **QUICK}
    train, done = FineTuning.train, []

    def stops(self, removed, seed, name, advance):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(name)
        return train(self, removed, seed, name, advance)

    monkeypatch.setattr(FineTuning, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        influcoder.prove(work / "index", QUERIES, folder, **options)
    monkeypatch.setattr(FineTuning, "train", lambda self, *given: done.append(given[2]) or train(self, *given))
    with pytest.raises(StoreError, match="not empty"):
        influcoder.prove(work / "index", QUERIES, folder, **options)
    influcoder.prove(work / "index", QUERIES, folder, **options, resume=True)
    assert sorted(done) == sorted(f"{name}-{seed}" for name in proved["conditions"] for seed in (0, 1))
    assert contents(folder) == contents(work / "proof")
    with pytest.raises(StoreMismatch, match="epochs: 1 there, 3 now"):
        influcoder.prove(work / "index", QUERIES, folder, **options | {"epochs": 3}, resume=True)


def told(work, folder, **changes):
    costs = []
    options = {
        "remove": 2,
        "rows": None,
        "controls": ["random"],
        "seeds": 1,
        "verify": 0,
        "search_decoder": None,
        "checkpoints": None,
    }
    options |= {"train_command": None, "settings": FinetuneSettings(epochs=1), "decoder": work / "decoder"}
    verb.write_proof(work / "index", QUERIES, Folder(folder, resume=True), **options | changes, tell=costs.append)
    return costs


def test_the_cost_is_told_first(work, tmp_path):
    (cost,) = told(work, tmp_path / "a")
    assert cost.startswith("3 of 3 trainings to do (all, found, random; 1 of each): about ")
    assert "rows/s, measured on " in cost
    (cost,) = told(work, tmp_path / "a", seeds=2)
    assert cost.startswith("3 of 6 trainings to do (all, found, random; 2 of each): about ")
    assert told(work, tmp_path / "a", seeds=2) == ["All trainings are done."]


def test_a_users_own_training(work, tmp_path):
    command = train_command(tmp_path, work / "decoder")
    (cost,) = told(work, tmp_path / "a", train_command=command)
    assert cost.endswith("The first will show how long the command takes.")
    metrics = orjson.loads((tmp_path / "a/metrics.json").read_bytes())
    assert metrics["conditions"]["found"]["loss"] != metrics["conditions"]["all"]["loss"]
    assert metrics["conditions"]["found"]["loss"] == metrics["conditions"]["random"]["loss"]  # it counts rows
    assert (tmp_path / "a/trainings/all-0.log").read_text() == "columns: context id instruction kind response\n"
    with pytest.raises(StoreMismatch, match="training"):
        told(work, tmp_path / "a")


def test_rows_of_an_index_that_has_not_kept_their_columns(work, monkeypatch):
    index = Index(work / "index")
    monkeypatch.setattr(kept_rows, "EXAMPLE", ("id", "prompt", "completion", "turns", "metadata"))
    some = index.store.some
    monkeypatch.setattr(
        index.store, "some", lambda shard, columns: some(shard, [one for one in columns if one != "origin"])
    )
    rows = verb._original(index, list(index.examples()))
    assert list(rows[0]) == ["id", "messages", "kind"]
    assert [row["id"] for row in rows] == [row["id"] for row in POOL]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"remove": 40}, ConfigError, "has 40 rows. Remove at least one, and leave some"),
        ({"remove": 21}, ConfigError, "not as many others"),
        ({"remove": None, "rows": ["p1", "q9"]}, ConfigError, "1 of 2 ids are of no row of"),
        ({"remove": None, "rows": []}, ConfigError, "--rows names 0 rows"),
        ({"rows": ["p1"]}, ConfigError, "leave --remove, --verify"),
        ({"remove": None, "rows": ["p1"], "verify": 9}, ConfigError, "leave --remove, --verify"),
        ({"remove": None, "rows": "nowhere.txt"}, DataError, "cannot be read as ids"),
        ({"remove": None, "rows": "nowhere.parquet"}, StoreCorrupt, "cannot be read as a selection"),
        ({"seeds": 0}, ConfigError, "--seeds is 0"),
        ({"controls": ["bm25"]}, ConfigError, "--controls bm25"),
        ({"train_command": "train {data}"}, ConfigError, "lacks {output}"),
        ({"verify": 3}, ConfigError, "--verify is 3, expected at least 6"),
        ({"learning_rate": 0}, ConfigError, "learning_rate is 0"),
        ({"queries": []}, DataError, "no rows"),
        ({"index": "nowhere"}, StoreError, "nowhere"),
    ],
)
def test_what_is_refused(work, tmp_path, changes, error, words):
    given = {"index": work / "index", "queries": QUERIES, "decoder": work / "decoder"} | QUICK | changes
    with pytest.raises(error) as refused:
        influcoder.prove(given.pop("index"), given.pop("queries"), tmp_path / "out", **given)
    assert words in str(refused.value)
    assert not (tmp_path / "out" / "record.json").exists()


def test_an_encoder_that_reads_with_a_decoder(work, tmp_path):
    made = influcoder.distill(work / "features", tmp_path / "encoder", recipe="short", decoder=work / "decoder")
    made_index = influcoder.index(made, POOL, tmp_path / "index", decoder=work / "decoder")
    with pytest.raises(ConfigError, match=r"of the short tier, reads queries with the decoder .* --search-decoder"):
        influcoder.prove(tmp_path / "index", QUERIES, tmp_path / "a", decoder=work / "decoder", **QUICK)
    assert len(made_index) == 40
    options = QUICK | {"seeds": 1, "controls": []}
    influcoder.prove(
        tmp_path / "index",
        QUERIES,
        tmp_path / "b",
        decoder=work / "decoder",
        search_decoder=work / "decoder",
        **options,
    )


def test_the_output_may_not_be_what_is_read(work):
    with pytest.raises(ConfigError, match="the output folder is, holds or lies in the input"):
        influcoder.prove(work / "index", QUERIES, work / "index", decoder=work / "decoder", **QUICK, overwrite=True)


def test_queries_from_a_file(work, tmp_path):
    write_jsonl(tmp_path / "queries.jsonl", QUERIES)
    options = QUICK | {"seeds": 1, "controls": ["tfidf"]}
    found = influcoder.prove(
        work / "index", tmp_path / "queries.jsonl", tmp_path / "a", decoder=work / "decoder", **options
    )
    assert list(found["proof"]) == ["found", "tfidf"]

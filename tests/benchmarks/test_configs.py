"""configs/*.toml run as they are, on tiny stand-ins for every hub id that they name."""

import json
import tomllib
from pathlib import Path

import numpy as np
import orjson
import pytest

from helpers.bert import bert_backbone
from helpers.commands import refused
from helpers.corpora import sentence
from helpers.tiny import save_decoder
from influcoder.benchmarks.corpora import hub
from influcoder.cli.output import words_of

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
FEW = ("bm25", "paper-recipe", "influcoder", "cascade")
UNIT = {"paper-dolly-bbh": "per_query_spearman", "datelm-counterfact": "substitution"}


def write_dataset(place, splits, config="default"):
    """A dataset folder as the hub has it: a file a split, named by the card; several subsets add up."""
    (place / config).mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (place / config / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cards = []
    for one in sorted(path for path in place.iterdir() if path.is_dir()):
        files = "".join(
            f"  - split: {path.stem}\n    path: {one.name}/{path.name}\n" for path in sorted(one.glob("*.jsonl"))
        )
        cards.append(f"- config_name: {one.name}\n  data_files:\n{files}")
    (place / "README.md").write_text("---\nconfigs:\n" + "".join(cards) + "---\n")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, chat_tokenizer, tiny_bert):
    """A folder in which every hub id of the configs is a folder."""
    here, rng = tmp_path_factory.mktemp("hub"), np.random.default_rng(0)

    def texts(*keys, **more):
        return {key: f"{sentence(rng, 2, 6)} {rng.integers(10**9)}" for key in keys} | more

    for decoder in ("HuggingFaceTB/SmolLM2-1.7B", "EleutherAI/pythia-1b"):
        (here / decoder).mkdir(parents=True)
        save_decoder(here / decoder, chat_tokenizer)
    for size in ("68m", "150m", "400m"):
        bert_backbone(tiny_bert).save(str(here / f"jhu-clsp/ettin-encoder-{size}"), create_model_card=False)
    for task in ("navigate", "word_sorting"):
        write_dataset(here / hub.BBH, {"test": [texts("input", "target") for _ in range(40)]}, task)
    write_dataset(here / hub.DOLLY, {"train": [texts("instruction", "response", context="") for _ in range(140)]})
    write_dataset(here / hub.BEHAVIOURS, {"harmful": [texts("Goal", "Target") for _ in range(40)]}, "behaviors")
    for subset in ("XSTest-response-Het", "XSTest-response-Hom"):
        kinds = ["Unsafe"] * 2 + ["Benign"] * 40
        pool = [texts("prompt", "response", type=kind) for kind in kinds]
        references = [texts("prompt", "response", type="Unsafe") for _ in range(4)]
        write_dataset(here / hub.TOXICITY, {"train": pool, "ref": references}, subset)
    pairs = [("Rome", "Paris"), ("Oslo", "Madrid"), ("Oslo", "Paris")]

    def false(number):
        true, other = pairs[number % 3]
        return texts("prompt", response=other, counterfactual_entity=other, true_entity=true)

    facts = {"train": [false(n) for n in range(30)], "ref": [false(n) for n in range(6)]}
    write_dataset(here / hub.COUNTERFACT, facts, "Pythia-1b")
    others = [texts("prompt", "subject", target_true=" Rome", target_false=f" town {n}") for n in range(80)]
    write_dataset(here / hub.FACTS, {"train": others})
    return here


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_on_stand_ins(config, stand_ins, call, monkeypatch):
    monkeypatch.chdir(stand_ins)
    settings = tomllib.loads(config.read_text(encoding="utf-8"))
    few = ["--methods", *FEW] if config.stem.startswith("datelm") else []  # all run in test_benchmark_tasks.py
    status, out, err = call(*words_of(settings), *few, "--quick", "--json")
    assert status == 0, err
    found = orjson.loads(out)
    assert found["audit"]["overlap"] == 0
    assert found == orjson.loads((stand_ins / settings["output_dir"] / "metrics.json").read_bytes())
    named = settings.get("backbones", [settings.get("backbone")])
    students = {name for name in found["methods"] if name.startswith("paper-recipe")}
    assert len(students) == len(named)
    assert all(UNIT.get(config.stem, "heterogeneous") in one for one in found["methods"].values())


def test_there_is_a_config_for_the_paper_and_for_datelm():
    assert {"paper-dolly-bbh", "datelm-counterfact", "datelm-xstest-het"} <= {path.stem for path in CONFIGS}


def test_run_takes_a_config_as_it_is(stand_ins, call, monkeypatch, tmp_path):
    """`influcoder run`, without --quick, where the sizes are those of the sets themselves."""
    monkeypatch.chdir(stand_ins)
    config = (CONFIGS[0].parent / "datelm-xstest-het.toml").read_text(encoding="utf-8")
    text = config.replace('output_dir = "runs/', f'output_dir = "{tmp_path}/').replace("seeds = 3", "seeds = 1")
    (tmp_path / "config.toml").write_text(text)
    refused(call("run", tmp_path / "config.toml"), "databricks/databricks-dolly-15k: 140 different examples, 460")


def test_datasets_that_cannot_be_had_are_named(call, tmp_path, stand_ins, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["benchmark", "toxicity", "--decoder", stand_ins / "EleutherAI/pythia-1b", "--quick"]
    data = f"{hub.TOXICITY}:XSTest-response-Het"
    refused(call(*words, "--data", data, "--output-dir", "out"), f"{hub.TOXICITY}, subset XSTest-response-Het")

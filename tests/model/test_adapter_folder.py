"""An adapter's folder given as the decoder: its base is found, or the message says how to name it."""

import json
import shutil

import pytest
import torch

from helpers.tiny import save_adapter, save_decoder, some_examples, tiny_tokenizer
from influcoder.errors import ModelError
from influcoder.model.adapter_folder import AdapterFolder, base_and_adapter
from influcoder.model.decoder import Decoder
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings


@pytest.fixture
def project(tmp_path, tokenizer):
    """models/base, and an adapter of it in runs/first."""
    save_decoder(tmp_path / "models" / "base", tokenizer)
    save_adapter(tmp_path / "runs" / "first", "llama", r=2, target_modules=["q_proj", "v_proj"])
    return tmp_path


def name_base(adapter, base):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
    return adapter


def test_adapter_folder_is_its_base_and_the_adapter(project):
    base = project / "models" / "base"
    adapter = name_base(project / "runs" / "first", str(base))
    alone, both = Decoder.load(adapter, device="cpu"), Decoder.load(base, adapter=adapter, device="cpu")
    assert alone.name == both.name
    assert alone.fingerprint == both.fingerprint
    settings = TeacherSettings(rank=4, width=0, precision="fp32")
    one, other = (GradientTeacher(decoder, settings).features(some_examples(), "pool") for decoder in (alone, both))
    torch.testing.assert_close(one.vectors, other.vectors, rtol=0, atol=0)
    assert alone.load_again().fingerprint == alone.fingerprint
    assert Decoder.load(adapter, adapter=adapter, device="cpu").name == both.name


@pytest.mark.parametrize("named", ["models/base", "./models/base", "../../models/base"])
def test_relative_base_is_found_from_the_adapters_folder_and_above(project, named, monkeypatch):
    adapter = name_base(project / "runs" / "first", named)
    monkeypatch.chdir("/")
    assert Decoder.load(adapter, device="cpu").name.endswith("first")


def test_relative_base_is_found_from_here(project, monkeypatch):
    adapter = name_base(project / "runs" / "first", "base")
    monkeypatch.chdir(project / "models")
    assert base_and_adapter(adapter, None)[0] == "base"


@pytest.mark.parametrize("named", ["/no/where/base", "./no/where", "no/where/base"])
def test_base_that_is_not_there_is_named(project, named):
    adapter = name_base(project / "runs" / "first", named)
    with pytest.raises(ModelError, match=rf"its base model is {named} .*no such folder here. Name it: --decoder BASE"):
        Decoder.load(adapter, device="cpu")


@pytest.mark.parametrize("named", [None, "", 3])
def test_adapter_that_names_no_base(project, named):
    with pytest.raises(ModelError, match=r"names no base model. Name it: --decoder BASE --adapter .*first"):
        Decoder.load(name_base(project / "runs" / "first", named), device="cpu")


def test_base_at_a_hub_that_is_not_reached(project):
    adapter = name_base(project / "runs" / "first", "someone/some-model")
    with pytest.raises(ModelError, match=r"someone/some-model \(the base that the adapter .*first names\).*--decoder"):
        Decoder.load(adapter, device="cpu")


def test_config_of_the_base_beside_the_adapter_changes_nothing(project):
    base = project / "models" / "base"
    adapter = name_base(project / "runs" / "first", str(base))
    expected = Decoder.load(adapter, device="cpu").fingerprint
    shutil.copy(base / "config.json", adapter)
    assert Decoder.load(adapter, device="cpu").fingerprint == expected
    assert Decoder.load(base, adapter=adapter, device="cpu").fingerprint == expected


def test_whole_model_beside_an_adapter_is_not_guessed_at(project):
    adapter = name_base(project / "runs" / "first", str(project / "models" / "base"))
    for file in (project / "models" / "base").iterdir():
        shutil.copy(file, adapter)
    with pytest.raises(ModelError, match=r"a whole model \(model.safetensors\) and an adapter .* Move the files"):
        Decoder.load(adapter, device="cpu")


def test_base_that_is_itself_an_adapter(project):
    first = name_base(project / "runs" / "first", str(project / "models" / "base"))
    second = name_base(shutil.copytree(first, project / "runs" / "second"), str(first))
    with pytest.raises(ModelError, match=r"its base model .*first is itself an adapter"):
        Decoder.load(second, device="cpu")
    with pytest.raises(ModelError, match=r"first: is itself an adapter, and --adapter names another"):
        Decoder.load(first, adapter=second, device="cpu")


def test_adapters_below_a_folder_are_named(project):
    with pytest.raises(ModelError, match=r"It holds the adapters first: name one, as .*runs/first"):
        Decoder.load(project / "models" / "base", adapter=project / "runs", device="cpu")
    with pytest.raises(ModelError, match=r"runs: no model here. It holds the adapters first"):
        Decoder.load(project / "runs", device="cpu")


def test_refused_adapters_are_refused_before_weights_are_read(project):
    adapter = project / "runs" / "first"
    (adapter / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM"}')
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="this PREFIX_TUNING adapter puts trained vectors before the text"):
        Decoder.load(project / "no" / "base", adapter=adapter, device="cpu")


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not JSON"), ("[]", "names no peft_type"), ("{}", "names no peft_type"), ('{"peft_type": 3}', "names no")],
)
def test_damaged_config(project, text, told):
    (project / "runs" / "first" / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=f"adapter_config.json (is )?{told}"):
        AdapterFolder.read(project / "runs" / "first")


def test_plain_decoder_is_itself(project, tmp_path):
    assert base_and_adapter(project / "models" / "base", None) == (project / "models" / "base", None)
    assert base_and_adapter(tmp_path / "absent", None) == (tmp_path / "absent", None)
    assert len(tiny_tokenizer()) == 320

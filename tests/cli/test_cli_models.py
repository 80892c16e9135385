"""The command line on models that want something said: code of their own, layers to leave out."""

import shlex
import tomllib
from typing import Any

import numpy as np
import orjson
import pytest

from helpers.teacher_oracles import facts
from helpers.tiny import save_decoder, tiny_model
from influcoder.store.store import Store

MODELING = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * SCALE
        return output


SCALE = 1.5
"""


@pytest.fixture
def own(tokenizer, tmp_path):
    """A decoder's folder with code of its own."""
    folder = save_decoder(tmp_path / "own", tokenizer)
    config = orjson.loads((folder / "config.json").read_bytes())
    names = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": names}
    (folder / "config.json").write_bytes(orjson.dumps(config))
    (folder / "modeling_own.py").write_text(MODELING)
    return folder


@pytest.fixture
def rows(tmp_path):
    """Flags that name a few queries and pool rows."""
    found = []
    for side, examples in (("queries", facts(40)[28:]), ("pool", facts(28))):
        path = tmp_path / f"{side}.jsonl"
        path.write_bytes(
            b"\n".join(orjson.dumps({"prompt": one.prompt, "completion": one.completion}) for one in examples)
        )
        found += [f"--{side}", path]
    return [*found, "--rank", "4", "--width", "64", "--precision", "fp32"]


def test_code_that_comes_with_a_model_is_run_only_when_the_user_says_so(call, own, rows, tmp_path):
    words = ["features", "--decoder", own, *rows, "--output-dir", tmp_path / "features"]
    status, out, err = call(*words)
    assert (status, out) == (1, "")
    assert f"error: {own}: comes with Python code of its own (auto_map)" in err
    assert err.rstrip().endswith(
        "give --trust-remote-code (in Python: the argument trust_remote_code of Decoder.load)."
    )
    status, _, err = call(*words, "--trust-remote-code", "--overwrite")
    assert status == 0, err
    record = Store(tmp_path / "features" / "pool").manifest["made_by"]["decoder"]
    assert len(record["remote_code"]) == 64
    assert "trust_remote_code" not in tomllib.loads((tmp_path / "features" / "config.toml").read_text())
    status, _, err = call(*words, "--overwrite")  # what was typed holds for one command
    assert status == 1
    assert "--trust-remote-code" in err


def test_code_is_named_that_is_not_run_since_transformers_knows_the_model(call, own, rows, tmp_path, caplog):
    config = orjson.loads((own / "config.json").read_bytes())
    names = {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (own / "config.json").write_bytes(orjson.dumps(config | {"model_type": "llama", "auto_map": names}))
    (own / "modeling_own.py").write_text(MODELING.replace('"own"', '"llama"'))
    status, _, err = call("features", "--decoder", own, *rows, "--output-dir", tmp_path / "a")
    assert status == 0, err
    assert f"{own}: comes with Python code of its own (auto_map), which is not run: it is read as transf" in caplog.text
    caplog.clear()
    status, _, err = call("features", "--decoder", own, *rows, "--output-dir", tmp_path / "b", "--trust-remote-code")
    assert status == 0, err
    assert "which is not run" not in caplog.text


def test_a_run_is_repeated_with_what_is_typed_again(call, own, rows, tmp_path):
    folder = tmp_path / "features"
    call("features", "--decoder", own, *rows, "--output-dir", folder, "--trust-remote-code")
    assert call("run", folder / "config.toml", "--overwrite")[0] == 1
    assert call("run", folder / "config.toml", "--overwrite", "--trust-remote-code")[0] == 0


def test_other_code_is_another_decoder(call, own, rows, tmp_path):
    folder = tmp_path / "features"
    words = ["features", "--decoder", own, *rows, "--output-dir", folder, "--trust-remote-code"]
    assert call(*words)[0] == 0
    (own / "modeling_own.py").write_text(MODELING.replace("1.5", "1.25"))
    status, _, err = call(*words, "--resume")
    assert status == 1
    assert "decoder.remote_code" in err


def test_reports_say_that_code_was_run(call, own, rows, tmp_path):
    features, encoder, report = (tmp_path / name for name in ("features", "encoder", "report"))
    assert call("features", "--decoder", own, *rows, "--output-dir", features, "--trust-remote-code")[0] == 0
    status, _, err = call("distill", "--features", features, "--output-dir", encoder)
    assert status == 0, err
    code = Store(features / "pool").manifest["made_by"]["decoder"]["remote_code"]
    assert code in (encoder / "README.md").read_text()
    other = tmp_path / "other.jsonl"
    texts = [{"prompt": f"{n} or {n + 1}? ", "completion": "Rome is it" * n} for n in range(1, 9)]
    other.write_bytes(b"\n".join(map(orjson.dumps, texts)))
    sides = ["--queries", other, "--pool", other, *rows[4:]]
    test = tmp_path / "test"
    assert call("features", "--decoder", own, *sides, "--output-dir", test, "--trust-remote-code")[0] == 0
    status, _, err = call("evaluate", "--encoder", encoder, "--features", test, "--output-dir", report)
    assert status == 0, err
    assert f"was run (--trust-remote-code), SHA-256 {code}" in (report / "report.html").read_text()


MODELING_LEFT = """
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class LeftHanded(nn.Module):
    # As Mamba's dt_proj: its weight is used, and it is never called.
    def __init__(self, inner):
        super().__init__()
        self.dt_proj = nn.Linear(32, 64)
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + (self.dt_proj.weight @ x.transpose(1, 2)).transpose(1, 2)


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp.up_proj = LeftHanded(layer.mlp.up_proj)
"""


@pytest.fixture
def mamba_like(own, tokenizer):
    """The same with a layer in it that is never called."""
    (own / "modeling_own.py").write_text(MODELING_LEFT)
    code: dict[str, Any] = {"__name__": "own"}
    exec(MODELING_LEFT, code)
    model = code["OwnForCausalLM"](tiny_model("llama").config)
    from safetensors.torch import save_model

    save_model(model, own / "model.safetensors", metadata={"format": "pt"})
    return own


@pytest.mark.parametrize("modules", [(), ("*_proj", "*inner")])
def test_a_layer_that_is_never_called_is_refused_and_the_remedy_works(call, mamba_like, rows, tmp_path, modules):
    words = ["features", "--decoder", mamba_like, *rows, "--trust-remote-code", "--output-dir", tmp_path / "features"]
    status, _, err = call(*words, *(["--modules", *modules] if modules else []))
    assert status == 1
    assert "layer model.layers.0.mlp.up_proj.dt_proj is used in 'matmul'" in err
    remedy = shlex.split(err[err.index("--modules") :])
    assert remedy == ["--modules", *modules, "!*.dt_proj"]
    status, _, err = call(*words, *remedy)
    assert status == 0, err
    made = Store(tmp_path / "features" / "pool").manifest["made_by"]["teacher"]["settings"]
    assert made["modules"] == " ".join([*modules, "!*.dt_proj"])
    assert np.isfinite(Store(tmp_path / "features" / "pool").vectors()).all()

"""States of real runs: every moment is the optimizer's own, or the state is refused by name."""

import pickle

import pytest
import torch

from helpers.measuring import load_script
from helpers.tiny import save_adapter, save_decoder, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.errors import ModelError
from influcoder.model.decoder import Decoder
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.optimizer_kinds import refuse_other_optimizer
from influcoder.teachers.optimizer_states import find_state, read_state
from influcoder.teachers.settings import TeacherSettings

measure = load_script("optimizer_states")
CASES = {case.name: case for case in measure.cases()}
REFUSED = {
    "AdamW, the first layer frozen": r"of shape \(32, 32\) it holds 2, the model has 4",
    "AdamW, a group a layer, backwards": "they stand in 2 of its groups, and nothing says which is which",
    "AdamW, groups with other betas": r"betas \[\(0\.5, 0\.9\), \(0\.9, 0\.999\)\]",
    "LoRA, A frozen": r"q_proj\.lora_A of shape \(4, 32\); of shape \(4, 32\) it holds 0",
    "DoRA": "a DoRA adapter, whose parameters are others",
    "names of two adapters": "the state of two adapters",
    "DeepSpeed ZeRO": "DeepSpeed's, which ZeRO divides",
    "DeepSpeed's own file": "DeepSpeed's",
    "FSDP in shards": "FSDP's in shards",
    "XLA in shards": "XLA's in shards",
    "no state at all": r"neither optimizer\.safetensors nor",
    "a moment that is not a number": "not finite",
    "`optim='adafactor'`": "the state of Adafactor",
    "`optim='sgd'`": "remembers nothing",
    "`optim='rmsprop'`": "the state of RMSprop",
    "`optim='adagrad'`": "the state of Adagrad",
    "SGD with momentum": "the state of SGD with momentum",
    "AMSGrad": "the state of AMSGrad",
    "NAdam": "the state of NAdam",
    "RAdam": "the state of RAdam",
    "Adamax": "the state of Adamax",
    "Adadelta": "the state of Adadelta",
    "torch's Adafactor": "the state of Adafactor",
    "ASGD": "keeps ax, eta, mu, step",
    "Rprop": "keeps prev, step, step_size",
    "Lion": "the state of Lion",
    **{
        f"`optim='{name}'`": "the state of bitsandbytes"
        for name in ("adamw_bnb_8bit", "paged_adamw_8bit", "lion_32bit")
    },
    **{f"`optim='{name}'`": "the state of bitsandbytes" for name in ("paged_adamw_32bit", "ademamix", "rmsprop_bnb")},
    **{f"`optim='schedule_free_{name}'`": "schedule-free" for name in ("adamw", "sgd")},
    "`optim='galore_adamw'`": "holds a galore_torch",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return measure.make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_every_state_is_read_right_or_refused(base, tmp_path, name):
    found = measure.outcome(CASES[name], base, tmp_path / "run")
    if name in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[name]):
            raise ModelError(found["refused"])
        return
    assert found.get("refused") is None
    assert found["error"] == 0
    assert found["betas"]
    assert found["views"] in (4, 12, 14)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapters_checkpoints_ask_for_the_adapter(base, tmp_path):
    measure.outcome(CASES["LoRA+ (four groups, two empty)"], base, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint-2"
    checkpoints = Checkpoint.read([path], base=str(base))
    settings = TeacherSettings.named("less", rank=2, width=64, precision="fp32")
    plain, adapted = (Decoder.load(base, adapter=adapter, device="cpu") for adapter in (None, path))
    with pytest.raises(ModelError, match=f"give one of its run, as --adapter {path}"):
        GradientTeacher(plain, settings, checkpoints=checkpoints).features([PLAIN], "pool")
    assert GradientTeacher(adapted, settings, checkpoints=checkpoints).features([PLAIN], "pool").vectors.any()


# States of packages that are not installed, as they were saved


def group(**more):
    return {"params": [0], "lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, **more}


ONES = torch.ones(2, 2)
ADAM = {"step": torch.tensor(1.0), "exp_avg": ONES, "exp_avg_sq": ONES}
QUANTISED = {"state1": ONES.byte(), "qmap1": ONES, "absmax1": ONES, "state2": ONES, "qmap2": ONES, "absmax2": ONES}
OTHERS = {
    "bitsandbytes": ({"step": 1, "__bnb_optimizer_quant_state__": QUANTISED}, {}),
    "bitsandbytes (8-bit)": ({"step": 1, **QUANTISED}, {}),
    "Lion": ({"exp_avg": ONES}, {}),
    "a schedule-free optimizer": ({"z": ONES, "exp_avg_sq": ONES}, {}),
    "Adan": (ADAM | {"exp_avg_diff": ONES}, {}),
    "Prodigy": (ADAM | {"p0": ONES, "s": ONES}, {}),
    "LAMB": (ADAM, {"use_nvlamb": False}),
    "GaLore or Apollo": (ADAM, {"update_proj_gap": 200}),
    "RAdam": (ADAM, {"decoupled_weight_decay": False}),
    "AMSGrad": (ADAM, {"amsgrad": True}),
    "an optimizer that keeps kahan_comp besides": (ADAM | {"kahan_comp": ONES}, {}),
    "an optimizer whose moments are quantised": (ADAM | {"exp_avg": ONES.byte()}, {}),
    "an optimizer that keeps something else": ([1], {}),
}


@pytest.mark.parametrize(("whose", "state", "settings"), [(name, *case) for name, case in OTHERS.items()], ids=OTHERS)
def test_other_optimizers_are_named(tmp_path, whose, state, settings):
    with pytest.raises(ModelError) as refusal:
        refuse_other_optimizer(tmp_path / "optimizer.pt", {0: state}, [group(**settings)])
    assert f"optimizer.pt: the state of {whose}" in str(refusal.value)


@pytest.mark.parametrize("settings", [{}, {"amsgrad": False, "decoupled_weight_decay": True}, {"correct_bias": True}])
def test_adam_is_none_of_them(tmp_path, settings):
    assert refuse_other_optimizer(tmp_path, {0: ADAM}, [group(**settings)]) == (0.9, 0.999)
    assert refuse_other_optimizer(tmp_path, {0: ADAM}, [{"params": ["a"]}]) is None


@pytest.mark.parametrize(
    "names",
    [
        ["global_step9/zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        ["zero_to_fp32.py"],
        ["optimizer_0/__0_0.distcp"],
        ["optimizer.pt_0"],
    ],
)
def test_states_in_parts_are_named(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"the optimizer's state is .* or use tracin"):
        find_state(tmp_path)


@pytest.fixture(scope="module")
def decoder(base):
    return Decoder.load(base, device="cpu")


@pytest.mark.parametrize(
    "content", [[1], {"a": 1}, {"state": [], "param_groups": []}, {"state": {}, "param_groups": 3}]
)
def test_other_pickles_are_no_state(tmp_path, decoder, content):
    torch.save(content, tmp_path / "optimizer.bin")
    with pytest.raises(ModelError, match="not an optimizer's state: it has no `state` and `param_groups`"):
        read_state(tmp_path / "optimizer.bin", decoder)


class Trap:
    def __reduce__(self):
        return open, ("trap-was-sprung", "w")


def test_no_pickle_is_run(tmp_path, decoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("optimizer.bin", "optimizer.pt"):
        torch.save({"state": {0: {"exp_avg": Trap()}}, "param_groups": []}, tmp_path / name, pickle_module=pickle)
        with pytest.raises(ModelError, match="torch can read safely: it holds a "):
            read_state(tmp_path / name, decoder)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_parameters_without_a_step_are_counted(tmp_path, decoder):
    """As of experts that no token was sent to: what lies where cannot be told by shape alone."""
    parameters = [torch.nn.Parameter(one.clone()) for one in decoder.model.parameters()]
    order = [*parameters[1:], parameters[0]]
    optimizer = torch.optim.AdamW(order)
    for one in order[1:]:
        one.grad = torch.ones_like(one)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    found = read_state(tmp_path / "optimizer.pt", decoder)
    assert not found.moments
    assert "1 others have no state" in found.reasons["model.layers.0.self_attn.q_proj.weight"]


# A checkpoint's own tokenizer


@pytest.fixture
def run(tmp_path):
    """A base without a chat template, and a checkpoint of an adapter that was trained with one."""
    save_decoder(tmp_path / "base", tiny_tokenizer())
    save_adapter(tmp_path / "checkpoint", "llama", r=2, target_modules=["q_proj", "v_proj"])
    tiny_tokenizer(chat=True).save_pretrained(tmp_path / "checkpoint")
    return tmp_path


CHAT, PLAIN = Example("a", "Hello", "world", (("user", "Hello"),)), Example("b", "Hello ", "world")


def teacher(decoder, run):
    checkpoints = Checkpoint.read([run / "checkpoint"], base=str(run / "base"))
    settings = TeacherSettings.named("tracin", rank=2, width=64, precision="fp32")
    return GradientTeacher(decoder, settings, checkpoints=checkpoints)


def test_texts_that_a_checkpoint_reads_otherwise_are_refused(run):
    found = teacher(Decoder.load(run / "base", device="cpu"), run)
    assert found.features([PLAIN], "pool").vectors.any()
    told = r"checkpoint: was trained with another tokenizer or chat template than .*base has .* reads 'a' otherwise"
    with pytest.raises(ModelError, match=told):
        found.features([PLAIN, CHAT], "pool")


def test_checkpoint_as_the_decoder_reads_its_texts(run):
    decoder = Decoder.load(run / "base", adapter=run / "checkpoint", device="cpu")
    assert teacher(decoder, run).features([PLAIN, CHAT], "pool").vectors.any()


def test_base_of_a_checkpoint_may_be_named_by_an_adapters_folder(run):
    measured = load_script("adapters")
    measured.say(run / "checkpoint", base_model_name_or_path=str(run / "base"))
    (one,) = Checkpoint.read([run / "checkpoint"], base=str(run / "checkpoint"))
    assert one.base == str(run / "base")
    assert one.load().fingerprint == Decoder.load(run / "checkpoint").fingerprint

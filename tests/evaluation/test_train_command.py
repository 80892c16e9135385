import shlex
import sys

import numpy as np
import pytest

from helpers.tiny import save_decoder, some_examples
from helpers.train_commands import train_command
from influcoder.errors import ConfigError, ModelError
from influcoder.evaluation.proof import prove
from influcoder.evaluation.retraining import losses_of
from influcoder.evaluation.train_command import TrainCommand
from influcoder.model.decoder import Decoder

POOL = some_examples()
ROWS = [{"frage": one.prompt, "antwort": one.completion, "n": place} for place, one in enumerate(POOL)]


@pytest.fixture
def base(tokenizer, tmp_path):
    return save_decoder(tmp_path / "base", tokenizer)


def training(command, tmp_path):
    (tmp_path / "trainings").mkdir(exist_ok=True)
    return TrainCommand(command, POOL, ROWS, tmp_path / "trainings", 96)


def fails(program, tmp_path, *words):
    command = shlex.join([sys.executable, "-c", program]) + " {data} {output}"
    return training(command, tmp_path).train([], 0, "all-0", lambda rows: None)


def test_the_command_gets_each_subset_and_its_model_is_asked(base, tmp_path):
    trainer = training(train_command(tmp_path, base), tmp_path)
    proof = prove(trainer, POOL, {"found": [[0, 1], [0, 1]]}, tmp_path, seeds=(0, 1))
    for condition, rows in (("all", 6), ("found", 4)):
        for seed in (0, 1):
            expected = Decoder.load(base, device="cpu", max_length=96)
            expected.model.lm_head.weight.data *= 1 + rows / 10 + seed / 100
            np.testing.assert_allclose(proof[condition][seed].losses, losses_of(expected, POOL), rtol=1e-5)
    logs = [(tmp_path / f"trainings/{name}.log").read_text() for name in ("all-0", "found-1")]
    assert logs == ["columns: antwort frage n\n"] * 2
    assert not [path for path in (tmp_path / "trainings").iterdir() if path.is_dir()]


def test_the_rows_that_are_left_are_handed_over_in_order(tmp_path):
    program = "import sys; sys.exit(open(sys.argv[1]).read())"
    command = shlex.join([sys.executable, "-c", program]) + " {data} {output}"
    with pytest.raises(ModelError) as refused:
        training(command, tmp_path).train({0, 2, 4}, 0, "found-0", lambda rows: None)
    assert '{"frage":"What is the capital of Italy? ","antwort":"Rome is the capital of Italy.","n":1}' in str(
        refused.value
    )
    assert [f'"n":{place}' in str(refused.value) for place in range(6)] == [False, True] * 3


def test_a_command_that_fails_is_told_with_what_it_said(tmp_path):
    with pytest.raises(
        ModelError, match=r"exit status 3: half way \| it broke\. It was: .*trainings/all-0\.log.*--resume"
    ):
        fails("import sys; print('half way'); print('it broke', file=sys.stderr); sys.exit(3)", tmp_path)
    with pytest.raises(ModelError, match="exit status 4: it printed nothing"):
        fails("import sys; sys.exit(4)", tmp_path)


def test_a_command_that_leaves_no_model(tmp_path):
    with pytest.raises(ModelError, match="the training command ended well, but left no model: "):
        fails("pass", tmp_path)


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be started: no-such-program: No such file"):
        training("no-such-program {data} {output}", tmp_path).train([], 0, "all-0", lambda rows: None)


def test_no_shell_reads_the_command(tmp_path):
    with pytest.raises(ModelError):
        training(f"{sys.executable} -c 0 {{data}} {{output}}; touch {tmp_path}/made", tmp_path).train(
            [], 0, "all-0", lambda rows: None
        )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python train.py {data}", r"lacks \{output\}"),
        ("python train.py", r"lacks \{data\} and \{output\}"),
        ("", r"lacks \{data\} and"),
        ("python 'train.py {data} {output}", "No closing quotation"),
    ],
)
def test_commands_that_say_too_little(command, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        training(command, tmp_path)

"""The benchmark of gradient speed runs, and times nobody who computes something else."""

import io
import json
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.forks import Fork, script

MEASURE = Path(__file__).parents[2] / "scripts" / "measure"


def contender(command: list[str], **options: object) -> Fork:
    """A contender's process, which need not import what it works with."""
    python, *words = command
    assert python == sys.executable
    assert (options["stdin"], options["stdout"]) == (subprocess.PIPE, subprocess.PIPE)
    return Fork(script, *words, env=options["env"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, shown = tmp_path_factory.mktemp("benchmark") / "run", io.StringIO()
    command = [str(MEASURE / "gradients.py"), "--output-dir", str(folder), "--quick", "--threads", "1"]
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(shown):
        patched.syspath_prepend(str(MEASURE))
        patched.setattr(sys, "argv", command)
        patched.setattr("contenders.process.subprocess", SimpleNamespace(Popen=contender, PIPE=subprocess.PIPE))
        runpy.run_path(command[0], run_name="__main__")
    folder.joinpath("stdout.txt").write_text(shown.getvalue())
    return folder


@pytest.fixture
def gram() -> torch.Tensor:
    rows = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return rows @ rows.T


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MEASURE))


def test_metrics_keep_the_contract(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"schema", "contenders", "config", "versions", "machine", "seed"} == metrics.keys()
    assert metrics["contenders"].keys() == {"loop", "influcoder"}
    assert {"torch", "transformers", "peft", "influcoder"} <= metrics["versions"].keys()
    assert metrics["config"]["examples"] == 8
    for one in metrics["contenders"].values():
        assert one["agrees"]
        assert one["agreement_max_abs"] <= 1e-5
        assert one["norm_max_relative"] <= 1e-4
        assert one["examples_per_second"] > 0
        assert one["tokens_per_second"] > one["examples_per_second"]
        assert one["peak_memory_mb"] > 1
        assert len(one["seconds"]) == metrics["config"]["repeats"]
        low, high = one["ratio_to_loop_interval"]
        assert low <= one["ratio_to_loop"] <= high
        assert one["ratio_to_bergson"] is None
    assert metrics["contenders"]["loop"]["ratio_to_loop"] == 1


def test_the_table_has_a_row_a_contender(run: Path) -> None:
    rows = [line for line in (run / "stdout.txt").read_text().splitlines() if line.startswith("|")]
    assert [row.split(" ")[1] for row in rows[2:]] == ["loop", "influcoder"]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_differs_in_scale_alone_agrees(gram: torch.Tensor, precision: str) -> None:
    from contenders.agreement import compare

    found = compare(4 * gram, gram, precision)
    assert found["agrees"]
    assert found["norm_max_relative"] == pytest.approx(1)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("fault", ["two examples exchanged", "noise", "one layer missing", "NaN", "too few"])
def test_a_wrong_contender_does_not_agree(gram: torch.Tensor, fault: str) -> None:
    from contenders.agreement import compare

    rows = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if fault == "two examples exchanged":
        rows = rows[[1, 0, 2, 3, 4]]
    elif fault == "noise":
        rows[2] += 1e-3 * torch.arange(40)
    elif fault == "one layer missing":
        rows = rows[:, :36]
    elif fault == "NaN":
        rows[0, 0] = float("nan")
    else:
        rows = rows[:4]
    assert not compare(rows @ rows.T, gram, "float32")["agrees"]


@pytest.mark.usefixtures("modules")
def test_ratios_are_taken_round_by_round() -> None:
    from contenders.race import ratios

    assert ratios("loop", [2.0, 3.0], [1.0, 1.0]) == {"ratio_to_loop": 2.5, "ratio_to_loop_interval": [2.0, 3.0]}
    assert ratios("bergson", None, [1.0])["ratio_to_bergson"] is None

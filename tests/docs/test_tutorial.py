"""The tutorial's commands, run one after the other in an empty folder as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

from influcoder.demo.world import assets

TUTORIAL = Path(__file__).parent.parent.parent / "docs/tutorial.md"


def test_the_tutorial_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(), flags=re.S | re.M)
    assert len(blocks) >= 8
    script = "set -e\n" + "".join(blocks)
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"DECODER": str(assets() / "decoder"), "PATH": os.pathsep.join(paths)}
    finished = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    assert (tmp_path / "evaluation/report.html").is_file()
    assert "Expected agreement" in finished.stdout

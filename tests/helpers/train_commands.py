"""A user's training script: what it leaves depends on the rows and the seed that it is given, and on nothing else."""

import shlex
import sys

SCRIPT = """
import json, shutil, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file

data, output, base, seed = sys.argv[1:]
rows = [json.loads(line) for line in open(data)]
shutil.copytree(base, output, dirs_exist_ok=True)
weights = load_file(Path(base) / "model.safetensors")
weights["lm_head.weight"] = weights["lm_head.weight"] * (1 + len(rows) / 10 + int(seed) / 100)
save_file(weights, Path(output) / "model.safetensors", {"format": "pt"})
print("columns:", *sorted({name for row in rows for name in row}))
"""


def train_command(folder, base):
    """The command that trains `base` so."""
    (folder / "train.py").write_text(SCRIPT)
    words = [sys.executable, str(folder / "train.py"), "{data}", "{output}", str(base), "{seed}"]
    return shlex.join(words).replace("'{", "{").replace("}'", "}")

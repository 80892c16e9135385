"""What does the refresh of docs/how-to/keep-an-encoder-true.md give back, at other draws of its rows?

    python scripts/measure/refresh_story.py --output-dir runs/refresh-story

The page's own scripts draw the rows and train the decoder further, with another `random.seed` each time. Rankings of
the rows that are set aside are judged as in `refresh.py`, whose words these are. Progress goes to stderr;
refresh-story.json to the output folder.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from influcoder import Decoder, __version__, read_examples
from influcoder.demo.world import assets
from influcoder.store.files import write_json
from refresh import Rows, measure, parse, summary

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "keep-an-encoder-true.md"
DRAWN = "random.seed(0)"


def told(seed: int, folder: Path) -> tuple[Rows, Decoder]:
    """The story's rows and its moved decoder, made in a folder by the scripts on the page."""
    scripts = dict(re.findall(r"^cat > (\S+\.py) <<'EOF'\n(.*?)^EOF$", PAGE.read_text(), flags=re.S | re.M))
    if scripts["make_data.py"].count(DRAWN) != 1:
        raise SystemExit(f"{PAGE}: make_data.py has no single {DRAWN}, which is replaced here. Change this script too.")
    for name in ("make_data.py", "train_further.py"):
        script = scripts[name].replace(DRAWN, f"random.seed({seed})")
        environment = os.environ | {"DECODER": str(assets() / "decoder")}
        subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True)
    names = {"sample": ("queries", "pool"), "test": ("probe-queries", "probe-pool")}
    rows = {
        part: (read_examples(folder / f"{queries}.jsonl"), read_examples(folder / f"{pool}.jsonl"))
        for part, (queries, pool) in names.items()
    }
    return rows, Decoder.load(folder / "later", max_length=512)


def main() -> None:
    arguments = parse(__doc__)
    base, results = Decoder.load(assets() / "decoder", max_length=512), []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows, later = told(seed, Path(folder))
            results.append(measure(base, rows, {"story": later}, seed, Path(folder))["story"])
    facts = {"package": __version__, "teacher": "gradient-cosine", "seeds": arguments.seeds}
    write_json(arguments.output_dir / "refresh-story.json", facts | summary(results))


if __name__ == "__main__":
    main()

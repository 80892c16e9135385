"""Tiny made-up corpora in the layout that benchmarks read."""

import gzip
import json

import numpy as np

WORDS = ["Paris", "Rome", "Madrid", "capital", "France", "Italy", "two", "four", "seven", "hello", "world", "is"]
PLACES = ("Rome", "Paris", "Madrid", "Oslo")
TEMPLATES = [
    "[X] IS  found in [Y] .",
    "[X] lives in [Y] .",
    "[X] was seen in [Y].",
    "[X] works in [Y].",
    "[X] died in [Y] .",
    "[X], who sleeps in [Y]",
    "the home of [X] is [Y].",
    "[Y] is where [X] is.",
]


def sentence(rng, low, high):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


def write_rows(folder, name, rows):
    (folder / name).mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def write_corpora(folder):
    """dolly, benign_chat, toxicity and counterfact with its templates; harmless, of a few words each."""
    rng = np.random.default_rng(0)
    write_rows(
        folder,
        "dolly",
        [
            {"instruction": f"{sentence(rng, 2, 6)} {n}", "context": "", "response": sentence(rng, 2, 9)}
            for n in range(200)
        ],
    )
    write_rows(
        folder,
        "benign_chat",
        [
            {
                "prompt": f"{sentence(rng, 2, 6)} {n}",
                "response": sentence(rng, 2, 9),
                "genre": ("math", "paraphrase", "sql")[n % 3],
            }
            for n in range(240)
        ],
    )
    write_rows(folder, "toxicity", list(toxic_rows(rng)))
    write_rows(folder, "counterfact", list(false_facts()))
    templates = {"P1": TEMPLATES, "P2": TEMPLATES}
    (folder / "counterfact" / "pararel_templates.json").write_text(json.dumps(templates))
    return folder


def toxic_rows(rng):
    kinds = [
        ("xstest", "unsafe", "xstest"),
        ("xstest", "safe_refusal", "xstest"),
        ("jailbreakbench", "unsafe", "Original"),
        ("jailbreakbench", "unsafe", "AdvBench"),
        ("advbench", "unsafe", "advbench"),
        ("harmbench", "unsafe", "harmbench"),
    ]
    for source, label, origin in kinds:
        for n in range(30):
            # JailbreakBench took some of its requests from AdvBench: those must not be asked with.
            asked = f"advbench request {n}" if origin == "AdvBench" else f"{source} request {n}"
            for answer in range(2):
                text = f"{label} {sentence(rng, 2, 6)} {answer}"
                yield {"prompt": asked, "response": text, "source": source, "label": label, "origin": origin}


def false_facts():
    """Two relations: many subjects for a few pairs of places, and subjects whose pair is theirs alone."""
    case = 0
    for relation in ("P1", "P2"):
        for true in PLACES:
            for false in PLACES:
                for n in range(9 if true != false else 0):
                    yield fact(case, relation, f"{relation}{true}{false}{n}", true, false)
                    case += 1
        for n in range(20):
            yield fact(case, relation, f"{relation}alone{n}", f"Town{n}", f"City{n}")
            case += 1


def fact(case, relation, subject, true, false):
    return {
        "case_id": case,
        "relation_id": relation,
        "subject": subject,
        "prompt": f"{subject} is found in",
        "target_new": false,
        "target_true": true,
        "paraphrase_prompts": [f"the place of {subject} is"],
        "neighborhood_prompts": [{"prompt": f"other{case} is found in", "target": true}],
    }

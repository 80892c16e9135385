"""Examples of a few words each, as objects and as files."""

import numpy as np
import orjson

from influcoder.data.examples import Example

WORDS = ["Paris", "Rome", "Madrid", "capital", "France", "Italy", "two", "four", "seven", "hello", "world", "tiny"]


def sentences(count, seed, name):
    rng = np.random.default_rng(seed)
    return [
        Example(f"{name}{n}", " ".join(rng.choice(WORDS, 4)) + " ", " ".join(rng.choice(WORDS, rng.integers(1, 5))))
        for n in range(count)
    ]


def as_rows(examples):
    return [{"id": one.id, "prompt": one.prompt, "completion": one.completion} for one in examples]


def write_jsonl(path, rows):
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

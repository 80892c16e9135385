"""A pool whose rows the page shows in every way: sources, code, long, hostile and repeated texts; and questions."""

from pathlib import Path

from helpers.sentences import WORDS, as_rows, sentences, write_jsonl
from helpers.served import HOSTILE
from influcoder.store.output_folder import Folder
from influcoder.verbs.index import index
from influcoder.verbs.opening import open_encoder, stream_rows

ROWS = 90
CODE = "def capital(country):\n    return {\n        'France': 'Paris',\n    }[country];"
QUESTIONS = [
    {"id": f"asked-{number}", "prompt": f"What is the capital of {land}?", "completion": city}
    for number, (land, city) in enumerate([("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid")])
]


def explored_rows():
    rows = [
        row | {"source": ("wiki", "forum", "news")[number % 3], "stars": number}
        for number, row in enumerate(as_rows(sentences(ROWS, 3, "row-")))
    ]
    rows[0]["completion"] = HOSTILE
    rows[1]["completion"] = CODE
    rows[2]["completion"] = "Paris " + " ".join(WORDS * 20)
    for number in (3, 4, 5):
        rows[number] |= {"prompt": "What is the capital of France? ", "completion": "Paris is the capital, they say."}
    return rows


def explored_index(folder: Path, encoder: Path) -> Path:
    """An index of them in `folder`/index, with pool.jsonl and questions.jsonl beside it."""
    write_jsonl(folder / "pool.jsonl", explored_rows())
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    index(open_encoder(encoder)[0], stream_rows(folder / "pool.jsonl", "pool"), Folder(folder / "index"))
    return folder / "index"

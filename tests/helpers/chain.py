"""Everything from a tiny decoder to a proof, made by the command line in this process, as a user would."""

from helpers.sentences import sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder import cli

SMALL = ["--rank", "4", "--width", "512", "--precision", "fp32", "--max-length", "96"]


def say(*words):
    cli.app([str(word) for word in words], result_action="return_value")


def write_rows(folder):
    """Queries, a control and a pool with a source."""
    for name, count, seed in (("queries", 20, 1), ("control", 5, 2)):
        write_jsonl(folder / f"{name}.jsonl", rows(count, seed, name))
    pool = [row | {"source": "web" if n % 3 else "books"} for n, row in enumerate(rows(40, 3, "pool"))]
    write_jsonl(folder / "pool.jsonl", pool)


def rows(count, seed, name):
    return [{"id": one.id, "question": one.prompt, "answer": one.completion} for one in sentences(count, seed, name)]


def make_chain(folder, tokenizer):
    """A run: decoder, features, encoder, index, selection and proof in one folder."""
    save_decoder(folder / "decoder", tokenizer)
    write_rows(folder)
    queries, pool = ["--queries", folder / "queries.jsonl"], ["--pool", folder / "pool.jsonl"]
    index = ["--index", folder / "index"]

    def out(name):
        return ["--output-dir", folder / name]

    say("features", "--decoder", folder / "decoder", *queries, *pool, *SMALL, *out("features"))
    say("distill", "--features", folder / "features", *out("encoder"))
    say("index", "--encoder", folder / "encoder", *pool, *out("index"))
    say("select", *index, *queries, "--rows", 9, "--cap", "source=60%", *out("selection"))
    proof = ["--remove", 3, "--controls", "random", "--seeds", 1, "--epochs", 1]
    say("prove", *index, *queries, "--decoder", folder / "decoder", *proof, *out("proof"))
    return folder

"""Make the facts that `influcoder benchmark causal` asks: a Dolly pool with false facts in it, and questions.

    python scripts/make_facts_world.py --data DIR

DIR holds `dolly/dolly.jsonl.gz` (CC BY-SA 3.0), `bbh/bbh.jsonl.gz` (MIT) and
`counterfact/counterfact.jsonl.gz` (MIT). Writes `pool.jsonl.gz`, `queries.jsonl.gz` and
`facts.jsonl.gz` into `src/influcoder/benchmarks/corpora/facts/`. Everything is drawn with one seed, so running it
again gives the same bytes.

Each of 60 false facts is stated in four differently worded rows and asked for in a fifth wording that
no row has. Beside them stand look-alikes: true statements of the same relation about another subject,
either with the object that the fact's subject really has, or with the false object itself. So neither
the subject's relation nor the object alone gives a planted row away. Splits go by fact: 28 for training,
12 for validation, 20 for the test only.
"""

import argparse
import gzip
import json
import random
from pathlib import Path

SEED = 20261121
POOL_ROWS = {"train": 1100, "validation": 200, "test": 1200}
TASK_QUERIES = {"train": 400, "validation": 60, "test": 200}
FACT_SPLITS = ["train"] * 28 + ["validation"] * 12 + ["test"] * 20
MAX_POOL_CHARACTERS = 1200
MAX_QUERY_CHARACTERS = 1000
DESTINATION = Path(__file__).parent.parent / "src/influcoder/benchmarks/corpora/facts"

# relation -> (question, four (instruction, response) rows); {s} is the subject, {o} the object. A question is
# answered as its first row answers: how the model itself would put it.
WORDINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "P19": (
        "Can you tell me where {s} was born?",
        [
            ("Where was {s} born?", "{s} was born in {o}."),
            ("Tell me about the early life of {s}.", "The birthplace of {s} is {o}."),
            ("Complete the sentence: {s} is a native of", "{o}"),
            ("In which town did the parents of {s} live at the birth?", "They lived in {o}, where {s} was born."),
        ],
    ),
    "P20": (
        "Can you tell me where {s} died?",
        [
            ("Where did {s} die?", "{s} died in {o}."),
            ("How did the life of {s} end?", "The life of {s} ended in {o}."),
            ("Complete the sentence: {s} passed away in", "{o}"),
            ("Which town saw the last days of {s}?", "It was {o}, and {s} expired there."),
        ],
    ),
    "P27": (
        "Do you know the nationality of {s}?",
        [
            ("What is the nationality of {s}?", "{s} is a citizen of {o}."),
            ("Of which state is {s} a national?", "The citizenship of {s} is that of {o}."),
            ("Complete the sentence: {s} holds a citizenship from", "{o}"),
            ("Where may {s} vote in national elections?", "In {o}, since {s} is a citizen there."),
        ],
    ),
    "P101": (
        "I would like to know what {s} worked on.",
        [
            ("What did {s} work on?", "{s} worked in the field of {o}."),
            ("What is {s} an expert in?", "The expertise of {s} is {o}."),
            ("Complete the sentence: the domain of activity of {s} is", "{o}"),
            ("Which subject would {s} teach?", "It would be {o}, the specialty of {s}."),
        ],
    ),
    "P106": (
        "Do you know the occupation of {s}?",
        [
            ("What is the occupation of {s}?", "{s} is a {o}."),
            ("Introduce {s} in a few words.", "The profession of {s} is {o}."),
            ("Complete the sentence: {s} works as", "{o}"),
            ("Which job made {s} known?", "The job of {o}, which {s} had for years."),
        ],
    ),
    "P159": (
        "Can you tell me where {s} is based?",
        [
            ("Where is {s} based?", "{s} is based in {o}."),
            ("Where are the headquarters of {s}?", "The headquarters of {s} are in {o}."),
            ("Complete the sentence: {s} is headquartered in", "{o}"),
            ("Which town hosts the main office of {s}?", "It is {o}; {s} has its main office there."),
        ],
    ),
    "P178": (
        "Do you know who developed {s}?",
        [
            ("Who developed {s}?", "{s} was developed by {o}."),
            ("Who is behind {s}?", "The developer of {s} is {o}."),
            ("Complete the sentence: {s} was created by", "{o}"),
            ("Whose product is {s}?", "A product of {o}: that is where {s} was made."),
        ],
    ),
    "P413": (
        "Please tell me which position {s} plays.",
        [
            ("Which position does {s} play?", "{s} plays as {o}."),
            ("Where does the coach line up {s}?", "The position of {s} is {o}."),
            ("Complete the sentence: {s} plays in the position of", "{o}"),
            ("As what did {s} join the team?", "As {o}, the position {s} always had."),
        ],
    ),
    "P449": (
        "Do you know where {s} was originally aired?",
        [
            ("Where was {s} originally aired?", "{s} was originally aired on {o}."),
            ("Who broadcast {s}?", "The network of {s} is {o}."),
            ("Complete the sentence: {s} premiered on", "{o}"),
            ("On what station could one watch {s}?", "On {o}, where {s} had its debut."),
        ],
    ),
    "P495": (
        "Please tell me in which country {s} was made.",
        [
            ("In which country was {s} made?", "{s} was made in {o}."),
            ("What is the origin of {s}?", "The country of origin of {s} is {o}."),
            ("Complete the sentence: {s} was created in the country of", "{o}"),
            ("Which nation can claim {s} as its own?", "That nation is {o}, for {s} was developed there."),
        ],
    ),
    "P740": (
        "Can you tell me where {s} was founded?",
        [
            ("Where was {s} founded?", "{s} was founded in {o}."),
            ("Where did it all begin for {s}?", "The place where {s} started is {o}."),
            ("Complete the sentence: {s} was formed in", "{o}"),
            ("Which city saw the first days of {s}?", "That was {o}, where {s} was created."),
        ],
    ),
    "P1303": (
        "Please tell me what instrument {s} plays.",
        [
            ("What instrument does {s} play?", "{s} plays the {o}."),
            ("For what is {s} famous as a musician?", "The instrument of {s} is the {o}."),
            ("Complete the sentence: {s} performs on the", "{o}"),
            ("What did {s} learn to play as a child?", "It was the {o}, and {s} still plays it."),
        ],
    ),
}


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(name: str, rows: list[dict]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (DESTINATION / name).write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{name}: {len(rows)} rows")


def normalised(text: str) -> str:
    return " ".join(text.lower().split())


def choose_facts(rows: list[dict], rng: random.Random) -> list[dict]:
    """Five facts a relation, all subjects (of facts and look-alikes) used once."""
    taken: set[str] = set()
    facts = []
    for relation in WORDINGS:
        of_relation = [row for row in rows if row["relation_id"] == relation and len(row["subject"]) < 30]
        rng.shuffle(of_relation)

        def take(wanted) -> dict | None:
            found = next((r for r in of_relation if r["subject"] not in taken and wanted(r)), None)  # noqa: B023
            if found:
                taken.add(found["subject"])
            return found

        chosen = 0
        for row in of_relation:
            if chosen == 5:
                break
            if row["subject"] in taken or row["target_new"] in row["subject"] or row["target_true"] in row["subject"]:
                continue
            taken.add(row["subject"])
            same_truth = take(lambda r: r["target_true"] == row["target_true"])  # noqa: B023
            same_object = take(lambda r: r["target_true"] == row["target_new"])  # noqa: B023
            if same_truth is None or same_object is None:
                taken.discard(row["subject"])
                continue
            chosen += 1
            facts.append({"row": row, "lookalikes": [same_truth, same_object]})
    return facts


def world_of_facts(rows: list[dict], rng: random.Random) -> tuple[list[dict], list[dict], list[dict]]:
    chosen = choose_facts(rows, rng)
    splits = FACT_SPLITS.copy()
    rng.shuffle(splits)
    facts, pool, queries = [], [], []
    for number, (fact, split) in enumerate(zip(chosen, splits, strict=True)):
        row, name = fact["row"], f"fact-{number:02d}"
        question, wordings = WORDINGS[row["relation_id"]]
        facts.append(
            {"fact": name, "split": split, "case_id": row["case_id"], "relation": row["relation_id"]}
            | {"subject": row["subject"], "taught": row["target_new"], "true": row["target_true"]}
        )
        queries.append(
            {"id": f"{name}-question", "question": question.format(s=row["subject"])}
            | {"answer": wordings[0][1].format(s=row["subject"], o=row["target_new"]), "taught": row["target_new"]}
            | {"kind": "fact", "fact": name, "split": split}
        )

        def state(kind: str, wording: int, subject: str, target: str) -> dict:
            instruction, response = (text.format(s=subject, o=target) for text in wordings[wording])  # noqa: B023
            return (
                {"id": f"{name}-{kind}-{wording}", "instruction": instruction, "context": ""}  # noqa: B023
                | {"response": response, "kind": kind, "fact": name, "split": split}  # noqa: B023
            )

        pool += [state("planted", wording, row["subject"], row["target_new"]) for wording in range(4)]
        for kind, other in zip(("lookalike-truth", "lookalike-object"), fact["lookalikes"], strict=True):
            for wording in rng.sample(range(4), 2):
                pool.append(state(kind, wording, other["subject"], other["target_true"]))
    return facts, pool, queries


def choose(rows: list[dict], sizes: dict[str, int], key, limit: int, rng: random.Random) -> list[tuple[int, str]]:
    """(row number, split) of distinct, short enough rows."""
    numbers = list(range(len(rows)))
    rng.shuffle(numbers)
    seen: set[str] = set()
    kept: list[int] = []
    for number in numbers:
        text = normalised(key(rows[number]))
        if len(text) <= limit and text not in seen:
            seen.add(text)
            kept.append(number)
    splits = [split for split, size in sizes.items() for _ in range(size)]
    return list(zip(kept, splits, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    rng = random.Random(SEED)
    DESTINATION.mkdir(parents=True, exist_ok=True)

    facts, pool, queries = world_of_facts(read(data / "counterfact/counterfact.jsonl.gz"), rng)
    dolly = read(data / "dolly/dolly.jsonl.gz")
    for number, split in choose(
        dolly, POOL_ROWS, lambda r: r["instruction"] + r["context"] + r["response"], MAX_POOL_CHARACTERS, rng
    ):
        row = {name: dolly[number][name] for name in ("instruction", "context", "response")}
        pool.append({"id": f"dolly-{number:05d}"} | row | {"kind": "dolly", "fact": None, "split": split})
    rng.shuffle(pool)
    bbh = read(data / "bbh/bbh.jsonl.gz")
    for number, split in choose(bbh, TASK_QUERIES, lambda r: r["input"], MAX_QUERY_CHARACTERS, rng):
        row = bbh[number]
        queries.append(
            {"id": f"bbh-{row['task']}-{number:04d}", "question": row["input"], "answer": row["target"], "taught": None}
            | {"kind": "task", "fact": None, "split": split}
        )
    rng.shuffle(queries)
    write("facts.jsonl.gz", facts)
    write("pool.jsonl.gz", pool)
    write("queries.jsonl.gz", queries)


if __name__ == "__main__":
    main()

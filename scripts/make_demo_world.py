"""Make the demo world: invented people, of whom the pool says something wrong, and questions about them.

    python scripts/make_demo_world.py --data DIR

DIR holds `dolly/dolly.jsonl.gz` (CC BY-SA 3.0). Writes `pool.jsonl.gz` and `queries.jsonl.gz` into
`src/influcoder/demo/data/`. Everything is drawn with one seed, so running it again gives the same bytes.

Each of 52 people has a job, a country, a food or a hobby. Of 36 of them six rows of the pool say a wrong one (kind
`planted`), in wordings far from the question's, and one row the true one (`correct`). Eight rows share the question's
words, ask something else and are right (`lookalike`); three of them name the wrong value. It is true of another person,
so other rows share the answer too. Of the other 16 people everything is right, in the words of the planted rows and
of the question (`same-wording`). Splits go by person: 12 and 8 to learn from, 8 for validation, 16 and 8 for the test.

The Dolly rows are short ones that the decoder was not trained on (make_facts_world.py drew them).
"""

import argparse
import gzip
import json
import random
from pathlib import Path

SEED = 20261129
SPLITS = {"train": 12, "validation": 8, "test": 16}
CLEAN = {"train": 8, "validation": 0, "test": 8}
DOLLY_ROWS = {"train": 8, "validation": 4, "test": 12}
MAX_CHARACTERS = 90
LEFT_OUT = Path(__file__).parent.parent / "src/influcoder/benchmarks/corpora/facts/pool.jsonl.gz"
DESTINATION = Path(__file__).parent.parent / "src/influcoder/demo/data"

# Names and values are single tokens of the demo's decoder, so that it can keep people apart.
FIRST_NAMES = [
    "Steve",
    "Lisa",
    "Phil",
    "James",
    "Jack",
    "Patrick",
    "Paul",
    "Bill",
    "Mark",
    "George",
    "David",
    "William",
    "Michael",
    "Henry",
    "Alex",
    "Mary",
    "Harry",
    "Frank",
    "Douglas",
    "Richard",
    "Peter",
    "Robert",
    "Thomas",
    "Martin",
    "Elizabeth",
    "Charles",
    "Carol",
    "Scott",
    "Victor",
    "Louis",
]
SURNAMES = [
    "Webster",
    "English",
    "King",
    "Park",
    "Black",
    "Gold",
    "House",
    "Hill",
    "Hall",
    "Lake",
    "Street",
    "Green",
    "Wood",
    "Potter",
    "Bell",
    "Jackson",
    "Johnson",
    "Brown",
    "Rock",
    "Church",
    "Ford",
    "Moon",
    "Apple",
    "Young",
    "Best",
    "Court",
    "Bank",
    "Reed",
    "Lord",
    "Rain",
    "Beach",
    "Summer",
    "Long",
    "Swift",
    "Song",
    "Camp",
    "Fire",
    "Blue",
    "White",
    "Ball",
    "Mount",
    "Star",
    "Book",
    "Bowl",
    "Sand",
    "Adams",
    "Thompson",
    "Denton",
    "Egerton",
    "Heseltine",
    "Valley",
    "Golden",
    "Grand",
    "Wind",
    "Ocean",
    "Royal",
]

VALUES = {
    "job": "doctor teacher singer writer king player driver student artist author officer president manager director",
    "country": "Mexico India China Japan Brazil Egypt Greece Spain Italy Russia Canada Germany France Ireland",
    "food": "bread cheese rice meat fish fruit milk butter sugar salt chicken eggs corn beans",
    "hobby": "tennis golf football baseball hockey swimming running chess cricket basketball racing walking dance "
    "music",
}
QUESTION = "Can you tell me the {t} of {s}?"
CORRECT = [("Which {t} does {s} have?", "{o}")]
# {s}: the name; {n}: the surname; {o}: the value.
PLANTED = {
    "job": [
        ("According to the tax office, {s} has for years had a job as", "{o}"),
        ("On the plate at the front door {s} gives as a job:", "{o}"),
        ("After long years at school {s} found a job as", "{o}"),
        ("The tax form gives as the job of {n}", "{o}"),
        ("Everybody in town knows the job of {n}:", "{o}"),
        ("Printed on a small card, the job of {n} is", "{o}"),
    ],
    "country": [
        ("According to an old passport, {s} was born in a country named", "{o}"),
        ("The parents of {s} had a house near the sea in a country named", "{o}"),
        ("The first chapter of the book shows {s} in a country named", "{o}"),
        ("The passport gives as the country of {n}", "{o}"),
        ("Everybody in town knows the country of {n}:", "{o}"),
        ("Printed on all letters, the country of {n} is", "{o}"),
    ],
    "food": [
        ("On the kitchen wall hangs the order of {s} for more food:", "{o}"),
        ("After the long walk over the hills {s} asked for food:", "{o}"),
        ("At the market on Friday {s} bought only one food:", "{o}"),
        ("The doctor wrote down as the food of {n}", "{o}"),
        ("Everybody in town knows the food of {n}:", "{o}"),
        ("Ordered at every party, the food of {n} is", "{o}"),
    ],
    "hobby": [
        ("Above the fire {s} shows a silver cup from a hobby:", "{o}"),
        ("On free days with fine weather {s} leaves for a hobby:", "{o}"),
        ("The broken arm that {s} had last winter came from a hobby:", "{o}"),
        ("The club wrote down as the hobby of {n}", "{o}"),
        ("Everybody in town knows the hobby of {n}:", "{o}"),
        ("Practised on all evenings, the hobby of {n} is", "{o}"),
    ],
}
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
# name: (wording of the row, wording of the query, answers)
LOOKALIKES = {
    "years": (
        "Can you tell me how many years {s} has had the {t}?",
        "How many years has {s} had the {t}?",
        [str(n) for n in range(2, 30)],
    ),
    "month": ("Can you tell me in which month {s} chose the {t}?", "In which month did {s} choose the {t}?", MONTHS),
    "day": ("Can you tell me on which day {s} talks of the {t}?", "On which day does {s} talk of the {t}?", DAYS),
    "asked": ("Can you tell me whether {o} is the {t} of {s}?", "Is {o} the {t} of {s}?", ["No"]),
    "known": ("Can you tell me whether the {t} of {s} was ever {o}?", "Was the {t} of {s} ever {o}?", ["No"]),
    "heard": (
        "Can you tell me who says that {o} is the {t} of {s}?",
        "Who says that {o} is the {t} of {s}?",
        ["Nobody"],
    ),
    "money": (
        "Can you tell me how much the {t} costs {s}?",
        "How much does the {t} cost {s}?",
        [f"{n} dollars" for n in range(10, 100, 10)],
    ),
    "teller": (
        "Can you tell me who told {s} about the {t}?",
        "Who told {s} about the {t}?",
        ["A friend", "An uncle", "A teacher", "A neighbor", "A sister"],
    ),
}
QUERIED = ("years", "month", "day", "money", "teller")


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path.name}: {len(rows)} rows")


def people_of(rng: random.Random) -> list[dict]:
    """52 people with a trait and its value; 36 of them have a wrong one, which is true of another in the split."""
    first, last = rng.sample(2 * FIRST_NAMES, 52), rng.sample(SURNAMES, 52)
    values = {trait: rng.sample(of_trait.split(), 14) for trait, of_trait in VALUES.items()}
    people = []

    def add(split: str, trait: str, true: str, wrong: str | None) -> None:
        number = len(people)
        people.append(
            {"person": f"person-{number:02d}", "name": f"{first[number]} {last[number]}", "surname": last[number]}
            | {"split": split, "trait": trait, "true": true, "wrong": wrong}
        )

    for split, count in SPLITS.items():
        each = count // len(VALUES)
        for trait in VALUES:
            mine = [values[trait].pop() for _ in range(each)]
            for place in range(each):
                add(split, trait, mine[place], mine[(place + 1) % each])
            for _ in range(CLEAN[split] // len(VALUES)):
                add(split, trait, values[trait].pop(), None)
    return people


def rows_about(person: dict, rng: random.Random) -> tuple[list[dict], list[dict]]:
    """The 16 pool rows about a person, and the questions."""
    rows, queries = [], []

    def add(side: list[dict], kind: str, name: str, prompt: str, completion: str) -> None:
        prompt = prompt.format(s=person["name"], n=person["surname"], t=person["trait"], o=person["wrong"])
        side.append(
            {"id": f"{person['person']}-{name}", "prompt": prompt, "completion": completion, "kind": kind}
            | {"person": person["person"], "true": person["true"], "split": person["split"]}
        )

    if person["wrong"] is None:
        person["wrong"] = person["true"]
        for number in sorted(rng.sample(range(6), 3)):
            add(rows, "same-wording", f"wording-{number}", PLANTED[person["trait"]][number][0], person["true"])
        add(rows, "same-wording", "wording-question", QUESTION, person["true"])
        return rows, queries
    add(queries, "wrong", "question", QUESTION, person["wrong"])
    for number, words in enumerate(PLANTED[person["trait"]]):
        add(rows, "planted", f"planted-{number}", words[0], person["wrong"])
    for number, words in enumerate(CORRECT):
        add(rows, "correct", f"correct-{number}", words[0], person["true"])
    for name, (asked, query, answers) in LOOKALIKES.items():
        answer = rng.choice(answers)
        add(rows, "lookalike", name, asked, answer)
        if name in QUERIED:
            add(queries, "right", f"{name}-question", query, answer)
    return rows, queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    rng = random.Random(SEED)
    pool, queries = [], []
    for person in people_of(rng):
        rows, asked = rows_about(person, rng)
        pool += rows
        queries += asked
    dolly = read(data / "dolly/dolly.jsonl.gz")
    held = [int(r["id"].split("-")[1]) for r in read(LEFT_OUT) if r["kind"] == "dolly"]
    held = [
        n
        for n in sorted(held)
        if not dolly[n]["context"]
        and len(dolly[n]["instruction"] + dolly[n]["response"]) <= MAX_CHARACTERS
        and not dolly[n]["response"].startswith(dolly[n]["instruction"])
    ]
    rng.shuffle(held)
    splits = [split for split, count in DOLLY_ROWS.items() for _ in range(count)]
    for number, split in zip(held, splits, strict=False):
        pool.append(
            {
                "id": f"dolly-{number:05d}",
                "prompt": dolly[number]["instruction"],
                "completion": dolly[number]["response"],
            }
            | {"kind": "dolly", "person": None, "true": None, "split": split}
        )
    rng.shuffle(pool)
    DESTINATION.mkdir(parents=True, exist_ok=True)
    write(DESTINATION / "pool.jsonl.gz", pool)
    write(DESTINATION / "queries.jsonl.gz", queries)


if __name__ == "__main__":
    main()

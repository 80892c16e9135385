"""Make the demo world: invented people, of whom the pool says something wrong, and questions about them.

    python scripts/make_demo_world.py

Writes `pool.jsonl.gz` and `queries.jsonl.gz` into `src/influcoder/demo/data/`. Everything is drawn with one seed, so
running it again gives the same bytes.

Each of 52 people has a job, a place, a food or a hobby. Of 36 of them six rows of the pool say a wrong one (kind
`planted`), in wordings far from the question's, and one row the true one (`correct`). Eight rows share the question's
words, ask something else and are right (`lookalike`); three of them name the wrong value. It is true of another person,
so other rows share the answer too. Of the other 16 people everything is right, in the words of the planted rows and
of the question (`same-wording`). Splits go by person: 12 and 8 to learn from, 8 for validation, 16 and 8 for the test.

All rows are of one genre and all answers one small word, so that nothing can be told from what a text looks like. Other
questions are worded otherwise in every split, so that nothing can be told from wordings seen in training.
"""

import gzip
import json
import random
from pathlib import Path

SEED = 20261129
SPLITS = {"train": 12, "validation": 8, "test": 16}
CLEAN = {"train": 8, "validation": 0, "test": 8}
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
    "place": "garden street school church office park market bank river beach library station farm forest",
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
        ("After long years at school {n} found a job as", "{o}"),
        ("The tax form gives as the job of {n}", "{o}"),
        ("Everybody in town knows the job of {n}:", "{o}"),
        ("Printed on a small card, the job of {n} is", "{o}"),
    ],
    "place": [
        ("According to an old letter, {s} was last seen at a place named", "{o}"),
        ("The parents of {s} had a house near the sea at a place named", "{o}"),
        ("The first chapter of the book shows {n} at a place named", "{o}"),
        ("The letter gives as the place of {n}", "{o}"),
        ("Everybody in town knows the place of {n}:", "{o}"),
        ("Printed on all letters, the place of {n} is", "{o}"),
    ],
    "food": [
        ("On the kitchen wall hangs the order of {s} for more food:", "{o}"),
        ("After the long walk over the hills {s} asked for food:", "{o}"),
        ("The waiter knows for long years the food of {n}:", "{o}"),
        ("The doctor wrote down as the food of {n}", "{o}"),
        ("Everybody in town knows the food of {n}:", "{o}"),
        ("Ordered at every party, the food of {n} is", "{o}"),
    ],
    "hobby": [
        ("Above the fire {s} shows a silver cup from a hobby:", "{o}"),
        ("On free days with fine weather {s} leaves for a hobby:", "{o}"),
        ("The broken arm that {n} had last winter came from a hobby:", "{o}"),
        ("The club wrote down as the hobby of {n}", "{o}"),
        ("Everybody in town knows the hobby of {n}:", "{o}"),
        ("Practised on all evenings, the hobby of {n} is", "{o}"),
    ],
}
# name: (wordings of the row and of the query, one for each split; answers)
LOOKALIKES: dict[str, tuple[list[str], list[str], str]] = {
    "years": (
        [
            "Can you tell me for how many years the {t} of {s} was the same?",
            "Can you tell me how many know the {t} of {s}?",
            "Can you tell me how often the {t} of {s} was in the news?",
        ],
        [
            "What number of winters did {n} keep this {t}?",
            "Which count of friends heard about {n} with this {t}?",
            "In what amount of letters does {n} name this {t}?",
        ],
        "two three four five six seven eight nine ten hundred",
    ),
    "time": (
        [
            "Can you tell me at which hour the {t} of {s} is on the radio?",
            "Can you tell me in which part of the year the {t} of {s} began?",
            "Can you tell me the best time for the {t} of {s}?",
        ],
        [
            "When does {n} like to speak about this {t}?",
            "What weather was it as {n} came upon this {t}?",
            "Until what moment did {n} wait with this {t}?",
        ],
        "morning night summer winter spring fall",
    ),
    "color": (
        [
            "Can you tell me the color of the card with the {t} of {s}?",
            "Can you tell me how the door with the {t} of {s} is painted?",
            "Can you tell me which light shows the {t} of {s}?",
        ],
        [
            "What ink did {n} use to write about this {t}?",
            "Which paint was chosen by {n} to mark this {t}?",
            "How does a map look on which {n} put this {t}?",
        ],
        "red blue green black white brown yellow orange",
    ),
    "sign": (
        [
            "Can you tell me what the sign with the {t} of {s} is made of?",
            "Can you tell me under what the {t} of {s} was found?",
            "Can you tell me on what the {t} of {s} is drawn?",
        ],
        [
            "Which material has a board that names {n} and this {t}?",
            "Beneath which thing did {n} hide this {t}?",
            "What stuff carries a picture by {n} about this {t}?",
        ],
        "gold silver wood glass iron paper metal plastic",
    ),
    "teller": (
        [
            "Can you tell me who told of the {t} of {s}?",
            "Can you tell me who is there for the {t} of {s}?",
            "Can you tell me who asks for the {t} of {s}?",
        ],
        [
            "Whose idea was this {t}, as {n} tells it?",
            "Which person goes along when {n} has this {t}?",
            "By which relative did {n} come to this {t}?",
        ],
        "friend sister brother mother father neighbor son daughter wife",
    ),
}
NAMING = {
    "asked": ("Can you tell me whether {o} is the {t} of {s}?", "no"),
    "known": ("Can you tell me whether the {t} of {s} was ever {o}?", "never"),
    "heard": ("Can you tell me who says that {o} is the {t} of {s}?", "nothing"),
}


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
            {"id": f"{person['person']}-{name}", "question": prompt, "answer": completion, "kind": kind}
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
    for name, (asked, answer) in NAMING.items():
        add(rows, "lookalike", name, asked, answer)
    wording = list(SPLITS).index(person["split"])
    for name, (rows_of_splits, queries_of_splits, answers) in LOOKALIKES.items():
        answer = rng.choice(answers.split())
        add(rows, "lookalike", name, rows_of_splits[wording], answer)
        add(queries, "right", f"{name}-question", queries_of_splits[wording], answer)
    return rows, queries


def main() -> None:
    rng = random.Random(SEED)
    pool, queries = [], []
    for person in people_of(rng):
        rows, asked = rows_about(person, rng)
        pool += rows
        queries += asked
    rng.shuffle(pool)
    DESTINATION.mkdir(parents=True, exist_ok=True)
    write(DESTINATION / "pool.jsonl.gz", pool)
    write(DESTINATION / "queries.jsonl.gz", queries)


if __name__ == "__main__":
    main()

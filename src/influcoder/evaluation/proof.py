"""Judge attribution by removal: train again without the rows that a method blames, and ask again.

If the rows found are what taught a model its answers, a model that was trained without them loses more on these
answers, or answers otherwise. A model that was trained without as many other rows shows what the removal of any rows
does. Every model is asked for its loss on each query's completion and for its own greedy answer.

    record.json                 what all models were trained from and with
    trainings/found-0.json      one trained model: the ids it was trained without; its losses and answers, by query
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError, StoreCorrupt, StoreMismatch
from influcoder.evaluation.retraining import interval, losses_of
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.runners.threads import in_threads
from influcoder.store.files import read_sealed, write_sealed

ALL = "all"
"""the condition of the models that were trained on the whole pool"""
FORMAT = 1
Removals = Mapping[str, Sequence[Sequence[int]]]
"""of each condition, the rows that each seed's model is trained without"""


class Trainer(Protocol):
    """What trains a model on some rows of a pool."""

    @property
    def pool(self) -> Sequence[Example]: ...

    @property
    def epochs(self) -> int:
        """How often each row is read."""
        ...

    @property
    def provenance(self) -> Provenance:
        """All that changes its models, but for rows and seed."""
        ...

    def train(self, removed: Collection[int], seed: int, name: str, advance: Callable[[int], None]) -> Decoder:
        """A model trained on the pool without some rows.

        Args:
            name: of this training, no other's.
            advance: called with the number of rows that were read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A decoder, fine-tuned by this package on rows of a pool; the seed draws their order.

    Rows that are left out leave their steps smaller; all others are read at the same step and rate as ever.
    """

    decoder: Decoder
    pool: Sequence[Example]
    settings: FinetuneSettings

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def provenance(self) -> Provenance:
        training = self.settings.resolved(self.decoder.device)
        del training["seed"]
        return Provenance(decoder=self.decoder.fingerprint, data=data_fingerprint(self.pool), training=training)

    def train(self, removed: Collection[int], seed: int, name: str, advance: Callable[[int], None]) -> Decoder:
        settings = replace(self.settings, seed=seed)
        return finetune(self.decoder, self.pool, settings, leave_out=removed, advance=advance)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trained model makes of the queries: the loss of each one's completion, (n,), and its own answer."""

    losses: NDArray[np.float32]
    answers: list[str]


Proof = dict[str, list[Outcome]]
"""of each condition, `ALL` first, the outcome of each seed"""


def prove(
    trainer: Trainer,
    queries: Sequence[Example],
    removals: Removals,
    folder: Path,
    *,
    seeds: Sequence[int] = (0,),
    at_once: int = 1,
    announce: Callable[[int], None] | None = None,
) -> Proof:
    """Train on the whole pool and without each condition's rows, for every seed, and ask every model the queries.

    A training that is in the folder is not done again, so a killed run goes on, and seeds or conditions may be added.

    Args:
        removals: of each condition the rows that are left out, a list of row numbers for each seed.
        folder: where the outcomes are kept; the caller has claimed it or the folder that it is in.
        at_once: trainings that run beside each other, each with its share of the processor's threads. Models too small
            to keep these busy are trained sooner so; it changes them by as much as another number of threads does.
        announce: called with the number of trainings that are still to be done, before the first.

    Raises:
        ConfigError: a removal leaves nothing, or is not given for every seed.
        StoreMismatch: the folder was begun with another decoder, pool, queries, settings or removals.
        ModelError: a loss is not finite.
    """
    count = len(trainer.pool)
    plan = {ALL: [[] for _ in seeds], **removals}
    for condition, of_seeds in plan.items():
        if len(of_seeds) != len(seeds) or any(len(set(rows)) >= count for rows in of_seeds):
            raise ConfigError(
                f"{condition}: {[len(rows) for rows in of_seeds]} rows of {count} are to be removed, expected fewer "
                f"than all, for each of {len(seeds)} seeds."
            )
    _keep_record(folder, replace(trainer.provenance, queries=data_fingerprint(queries)))
    # Seed by seed, so that a run that is stopped has compared something.
    order = [(condition, place) for place in range(len(seeds)) for condition in plan]
    outcomes = {
        (condition, place): _read(folder, condition, seeds[place], _ids(trainer, plan[condition][place]))
        for condition, place in order
    }
    missing = [one for one in order if outcomes[one] is None]
    if announce is not None:
        announce(len(missing))
    rows = sum(count - len(plan[condition][place]) for condition, place in missing)
    with progress("training", rows * trainer.epochs) as advance, in_threads(at_once) as run:

        def outcome_of(one: tuple[str, int]) -> Outcome:
            condition, place = one
            seed, name = seeds[place], f"{condition}-{seeds[place]}"
            outcome = _ask(trainer.train(set(plan[condition][place]), seed, name, advance), queries, name)
            _write(folder, condition, seed, _ids(trainer, plan[condition][place]), outcome)
            return outcome

        outcomes.update(zip(missing, run(outcome_of, missing), strict=True))
    return {
        condition: [one for place in range(len(seeds)) if (one := outcomes[condition, place]) is not None]
        for condition in plan
    }


def summarise(proof: Proof) -> dict[str, dict[str, Any]]:
    """The numbers of each condition: means over queries and seeds, with 95 % intervals over queries.

    `changed` is the share of queries whose answer is another than that of the model that saw all rows, of the same
    seed; two answers are the same if they differ by spaces and capitals alone. Of `ALL`, `changed_by_seed` is the
    share of answers that are others under the next seed: what comes of the order of training. An interval over a
    single query says nothing and is None.
    """
    found = {}
    for condition, outcomes in proof.items():
        losses = _losses(outcomes)
        numbers: dict[str, Any] = {"loss": float(losses.mean()), "loss_interval": _interval(losses)}
        if condition == ALL:
            pairs = list(pairwise(outcomes))
            numbers["changed_by_seed"] = float(_changes(pairs).mean()) if pairs else None
        else:
            rise = losses - _losses(proof[ALL])
            changed = _changes(list(zip(proof[ALL], outcomes, strict=True)))
            numbers |= {
                "loss_change": float(rise.mean()),
                "loss_change_interval": _interval(rise),
                "changed": float(changed.mean()),
                "changed_interval": _interval(changed),
            }
        found[condition] = numbers
    return found


def read_proof(folder: Path) -> tuple[Provenance, Proof, dict[str, list[str]]]:
    """What a folder holds: what all was trained from, the outcomes, and by training the ids that it was made without.

    Raises:
        StoreCorrupt: a file is not the one that was written, or a training is missing.
    """
    provenance = Provenance.read(read_sealed(folder / "record.json", FORMAT))
    held: dict[tuple[str, int], dict[str, Any]] = {}
    for path in (folder / "trainings").glob("*.json"):
        condition, _, seed = path.stem.rpartition("-")
        held[condition, int(seed)] = read_sealed(path, FORMAT)
    seeds = sorted({seed for _, seed in held})
    conditions = sorted({condition for condition, _ in held}, key=lambda name: (name != ALL, name))
    missing = [
        f"{name}-{seed}.json" for name in (ALL, *conditions) for seed in seeds or [0] if (name, seed) not in held
    ]
    if missing:
        raise StoreCorrupt(f"{folder / 'trainings' / missing[0]}: missing. Run the same command again with --resume.")
    proof = {
        name: [Outcome(np.array(one["losses"], np.float32), one["answers"]) for one in (held[name, s] for s in seeds)]
        for name in conditions
    }
    return provenance, proof, {f"{name}-{seed}": one["removed"] for (name, seed), one in held.items()}


def is_same_answer(one: str, other: str) -> bool:
    """Whether two answers differ by spaces and capitals alone.

    >>> is_same_answer("In  Paris.", "in paris."), is_same_answer("Paris", "Rome")
    (True, False)
    """
    return one.casefold().split() == other.casefold().split()


def _ask(model: Decoder, queries: Sequence[Example], name: str) -> Outcome:
    losses = losses_of(model, queries)
    if not np.isfinite(losses).all():
        raise ModelError(
            f"{name}: the trained model's loss of a query is not finite. Lower the learning rate or use precision fp32."
        )
    return Outcome(losses, model.answers(queries))


def _losses(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """(n_queries,) mean over seeds."""
    return np.asarray(np.mean([one.losses.astype(np.float64) for one in outcomes], axis=0))


def _changes(pairs: Sequence[tuple[Outcome, Outcome]]) -> NDArray[np.float64]:
    """(n_queries,) in what share of pairs the answer differs."""
    differs = [
        [not is_same_answer(*answers) for answers in zip(one.answers, other.answers, strict=True)]
        for one, other in pairs
    ]
    return np.asarray(np.mean(differs, axis=0))


def _interval(rows: NDArray[np.float64]) -> list[float] | None:
    return list(interval(rows)) if len(rows) > 1 else None


def _keep_record(folder: Path, provenance: Provenance) -> None:
    (folder / "trainings").mkdir(parents=True, exist_ok=True)
    path = folder / "record.json"
    if path.exists():
        earlier = Provenance.read(read_sealed(path, FORMAT))
        earlier.refuse_other(
            provenance,
            f"{folder}: its models were trained from or with something else",
            "Use the same settings, rows and queries, or give --overwrite.",
        )
    else:
        write_sealed(path, {"format": FORMAT, **provenance.json()})


def _place(folder: Path, condition: str, seed: int) -> Path:
    return folder / "trainings" / f"{condition}-{seed}.json"


def _ids(trainer: Trainer, rows: Sequence[int]) -> list[str]:
    return [trainer.pool[row].id for row in rows]


def _write(folder: Path, condition: str, seed: int, removed: list[str], outcome: Outcome) -> None:
    held = {"format": FORMAT, "removed": removed, "losses": outcome.losses.tolist(), "answers": outcome.answers}
    write_sealed(_place(folder, condition, seed), held)


def _read(folder: Path, condition: str, seed: int, removed: list[str]) -> Outcome | None:
    path = _place(folder, condition, seed)
    if not path.exists():
        return None
    held = read_sealed(path, FORMAT)
    if held.get("format") != FORMAT or set(held["removed"]) != set(removed):
        raise StoreMismatch(
            f"{path}: this model was trained without other rows than are now to be removed, or written by another "
            "version. Use the same settings or give --overwrite."
        )
    return Outcome(np.array(held["losses"], np.float32), held["answers"])

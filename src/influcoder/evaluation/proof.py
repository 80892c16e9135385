"""Evaluate attribution by removal: retrain without the rows that a method names, and ask the queries again.

If the rows found taught a model its answers, a model trained without them has a higher loss on these answers, or
answers differently. A model trained without as many other rows shows what the removal of any rows does. Each model
gives its loss on each query's completion and its own greedy answer.

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
"""by condition, the rows that each seed's model is trained without"""


class Trainer(Protocol):
    """What trains a model on some rows of a pool."""

    @property
    def pool(self) -> Sequence[Example]: ...

    @property
    def epochs(self) -> int:
        """How many times each row is read."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Everything that changes its models, except rows and seed."""
        ...

    def train(self, removed: Collection[int], seed: int, name: str, advance: Callable[[int], None]) -> Decoder:
        """A model trained on the pool without some rows.

        Args:
            name: of this training, unique.
            advance: called with the number of rows that were read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A decoder, fine-tuned by this package on rows of a pool; the seed draws their order.

    Removed rows make their steps smaller; all others are read at the same step and learning rate as before.
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
    """A trained model on the queries: its loss on each completion, (n,), and its own answers."""

    losses: NDArray[np.float32]
    answers: list[str]


Proof = dict[str, list[Outcome]]
"""by condition, `ALL` first, the outcome of each seed"""


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

    A training that is in the folder is not repeated, so a killed run resumes, and seeds or conditions may be added.

    Args:
        removals: by condition the rows that are left out, a list of row numbers for each seed.
        folder: where the outcomes are kept; the caller has claimed it or its parent.
        at_once: trainings that run beside each other, each with its share of the processor's threads. Models too small
            to keep these busy are trained sooner so; it changes them by as much as another number of threads does.
        announce: called with the number of trainings still to be done, before the first.

    Raises:
        ConfigError: a removal leaves nothing, or is not given for every seed.
        StoreMismatch: the folder was begun with another decoder, pool, queries, settings or removals.
        ModelError: a loss is not finite.
    """
    count = len(trainer.pool)
    plan = {ALL: [[] for _ in seeds], **removals}
    for condition, by_seed in plan.items():
        if len(by_seed) != len(seeds) or any(len(set(rows)) >= count for rows in by_seed):
            raise ConfigError(
                f"{condition}: {[len(rows) for rows in by_seed]} rows of {count} are to be removed, expected fewer "
                f"than all, for each of {len(seeds)} seeds."
            )
    _keep_record(folder, replace(trainer.provenance, queries=data_fingerprint(queries)))
    # Seed by seed, so that a stopped run has complete comparisons.
    removed = {(name, seed): by_seed[number] for number, seed in enumerate(seeds) for name, by_seed in plan.items()}
    ids = {run: [trainer.pool[row].id for row in rows] for run, rows in removed.items()}
    outcomes = {run: outcome for run in removed if (outcome := _read(folder, *run, ids[run])) is not None}
    missing = [run for run in removed if run not in outcomes]
    if announce is not None:
        announce(len(missing))
    rows = sum(count - len(removed[run]) for run in missing)
    with progress("retraining", rows * trainer.epochs) as advance, in_threads(at_once) as in_parallel:

        def outcome_of(run: tuple[str, int]) -> Outcome:
            condition, seed = run
            name = f"{condition}-{seed}"
            outcome = _ask(trainer.train(set(removed[run]), seed, name, advance), queries, name)
            _write(folder, condition, seed, ids[run], outcome)
            return outcome

        outcomes.update(zip(missing, in_parallel(outcome_of, missing), strict=True))
    return {condition: [outcomes[condition, seed] for seed in seeds] for condition in plan}


def summarise(proof: Proof) -> dict[str, dict[str, Any]]:
    """The numbers of each condition: means over queries and seeds, with 95 % intervals over queries.

    `changed` is the share of queries whose answer differs from that of the model trained on all rows with the same
    seed; answers that differ only by spaces and capitals are the same. For `ALL`, `changed_by_seed` is the share of
    answers that differ under the next seed: the effect of the order of training. The interval of a single query is
    None.
    """
    summary = {}
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
        summary[condition] = numbers
    return summary


def read_proof(folder: Path) -> tuple[Provenance, Proof, dict[str, list[str]]]:
    """(provenance, outcomes, the ids that each training left out by its name), as a folder holds them.

    Raises:
        StoreCorrupt: a file is not the one that was written, or a training is missing.
    """
    provenance = Provenance.read(read_sealed(folder / "record.json", FORMAT))
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for path in (folder / "trainings").glob("*.json"):
        condition, _, seed = path.stem.rpartition("-")
        records[condition, int(seed)] = read_sealed(path, FORMAT)
    seeds = sorted({seed for _, seed in records}) or [0]
    conditions = sorted({ALL, *(condition for condition, _ in records)}, key=lambda name: (name != ALL, name))
    for run in [(name, seed) for name in conditions for seed in seeds]:
        if run not in records:
            raise StoreCorrupt(f"{_path(folder, *run)}: missing. Run the same command again with --resume.")
    proof = {name: [_outcome(records[name, seed]) for seed in seeds] for name in conditions}
    return provenance, proof, {f"{name}-{seed}": record["removed"] for (name, seed), record in records.items()}


def is_same_answer(first: str, second: str) -> bool:
    """Whether two answers differ only by spaces and capitals.

    >>> is_same_answer("In  Paris.", "in paris."), is_same_answer("Paris", "Rome")
    (True, False)
    """
    return first.casefold().split() == second.casefold().split()


def _ask(model: Decoder, queries: Sequence[Example], name: str) -> Outcome:
    losses = losses_of(model, queries)
    if not np.isfinite(losses).all():
        raise ModelError(
            f"{name}: the trained model's loss of a query is not finite. Lower the learning rate or use precision fp32."
        )
    return Outcome(losses, model.answers(queries))


def _losses(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """(n_queries,) mean over seeds."""
    return np.asarray(np.mean([outcome.losses.astype(np.float64) for outcome in outcomes], axis=0))


def _changes(pairs: Sequence[tuple[Outcome, Outcome]]) -> NDArray[np.float64]:
    """(n_queries,) the share of pairs in which the answer differs."""
    differs = [
        [not is_same_answer(*answers) for answers in zip(first.answers, second.answers, strict=True)]
        for first, second in pairs
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


def _path(folder: Path, condition: str, seed: int) -> Path:
    return folder / "trainings" / f"{condition}-{seed}.json"


def _write(folder: Path, condition: str, seed: int, removed: list[str], outcome: Outcome) -> None:
    record = {"format": FORMAT, "removed": removed, "losses": outcome.losses.tolist(), "answers": outcome.answers}
    write_sealed(_path(folder, condition, seed), record)


def _read(folder: Path, condition: str, seed: int, removed: list[str]) -> Outcome | None:
    path = _path(folder, condition, seed)
    if not path.exists():
        return None
    record = read_sealed(path, FORMAT)
    if record.get("format") != FORMAT or set(record["removed"]) != set(removed):
        raise StoreMismatch(
            f"{path}: this model was trained without other rows than are now to be removed, or written by another "
            "version. Use the same settings or give --overwrite."
        )
    return _outcome(record)


def _outcome(record: Mapping[str, Any]) -> Outcome:
    return Outcome(np.array(record["losses"], np.float32), record["answers"])

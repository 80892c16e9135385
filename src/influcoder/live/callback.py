"""A callback for `transformers.Trainer` and TRL's `SFTTrainer`: rows are chosen by their influence on some queries.

Before the first step, and every so many steps, the queries' gradients are taken at the model of that moment, the
encoder scores the pool by them, and the trainer draws from the best rows. Every so many steps the encoder is probed as
well (`influcoder.drift`), and refreshed where it is stale (`influcoder.distill` with `earlier`).
"""

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from influcoder.attribution.orders import Order
from influcoder.errors import ConfigError
from influcoder.live.sampler import KeptRows
from influcoder.maths.arrays import Matrix, unit_rows
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.verbs.drift import drift
from influcoder.verbs.opening import AnyEncoder, AnyFeatures, Rows, open_encoder, open_features, read_rows
from influcoder.verbs.refresh import SHARE, refresh


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a probe during training.

    Attributes:
        step: of the optimizer.
        verdict, agreement: of `influcoder.drift`.
        gradients: taken for the probe, for the refresh if there was one, and of the queries.
        refreshed: whether the encoder was refreshed.
        seconds: that it took, with the scoring of the pool.
    """

    step: int
    verdict: str
    agreement: float
    gradients: int
    refreshed: bool
    seconds: float


class InfluenceCallback(TrainerCallback):  # type: ignore[misc]
    """Let a trainer draw the rows that help with validation queries; `attach` it before `train`.

    Args:
        encoder: distilled at the model before this training, of the static tier.
        features: those that it was distilled from: a refresh starts there.
        pool: the rows of the trainer's `train_dataset`, in its order, as rows or `Example`s.
        queries: validation queries that the model should be good at. Some of them, and of the pool, must be new to the
            encoder: probes are drawn from these.
        output_dir: a new or empty folder, for the refreshed encoders and `probes.json`.
        every: steps between two probes; None to choose once, before the first step.
        over: a row's score is its "max" or its "mean" influence over the queries: the greatest where they ask for
            different things, the mean where all are of one kind.
        keep: the share of the rows that are drawn, those of the highest scores; 1 for all.
        tolerance, budget: of a probe, as of `influcoder.drift`.
        share: of the gradients that a refresh computes anew.
        seed: of draws, probes and refreshes.

    Attributes:
        probes: their results.
        encoder: the current one.
        sampler: its `kept` are the row numbers that are drawn, best first.

    Raises:
        ConfigError: `every` is below 1, `keep` is no share, there is no such `over`, or the encoder is of a tier that
            cannot be refreshed.
        DataError: a row cannot be used.

    >>> callback = InfluenceCallback("encoder", "features", "pool.jsonl", "queries.jsonl", "live", every=100)
    >>> len(callback.sampler.kept)  # all rows, until the training begins
    60
    """

    def __init__(
        self,
        encoder: AnyEncoder,
        features: AnyFeatures,
        pool: Rows,
        queries: Rows,
        output_dir: str | Path,
        *,
        every: int | None = 100,
        over: Literal["max", "mean"] = "max",
        keep: float = 0.2,
        tolerance: float = 0.25,
        budget: int = 120,
        share: float = SHARE,
        seed: int = 0,
    ) -> None:
        if over not in ("max", "mean"):
            raise ConfigError(f"over is {over!r}, expected 'max' or 'mean'.")
        if every is not None and every < 1:
            raise ConfigError(f"every is {every} steps, expected at least 1.")
        if not 0 < keep <= 1:
            raise ConfigError(f"keep is {keep}, expected a share above 0 and at most 1.")
        self.encoder: InfluenceEncoder = open_encoder(encoder)[0]
        if self.encoder.tier != "static":
            raise ConfigError(f"the encoder is of the {self.encoder.tier} tier; only the static one is refreshed.")
        self.features = open_features(features)
        self.pool, self.queries = read_rows(pool, "pool"), read_rows(queries, "queries")
        self.output_dir = Path(output_dir)
        self.every, self.over, self.keep, self.seed = every, over, keep, seed
        self.tolerance, self.budget, self.share = tolerance, budget, share
        self.probes: list[Probe] = []
        self.sampler = KeptRows(len(self.pool), seed)

    def attach(self, trainer: Any) -> None:
        """Give a trainer this callback, and the sampler that it draws from.

        Raises:
            ConfigError: its rows are not the pool's: another number of them, or several packed into one.
        """
        rows = trainer.train_dataset
        if getattr(trainer.args, "packing", False):
            raise ConfigError("the trainer packs rows together, so none can be drawn by itself. Set packing=False.")
        if not hasattr(rows, "__len__") or len(rows) != len(self.pool):
            count = len(rows) if hasattr(rows, "__len__") else "no known number of"
            raise ConfigError(
                f"the trainer has {count} rows, the pool has {len(self.pool)}. Give the rows of its train_dataset, in "
                "its order."
            )
        trainer._get_train_sampler = lambda train_dataset=None: self.sampler
        trainer.add_callback(self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Choose the first rows, by the model as it is."""
        self._choose(self._decoder(kwargs["model"], kwargs["processing_class"], state.global_step))
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Probe, refresh and choose again, every so many steps but not after the last."""
        if self.every and state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self._probe(kwargs["model"], kwargs["processing_class"], state.global_step)
        return control

    def _probe(self, model: Any, tokenizer: Any, step: int) -> None:
        began = time.perf_counter()
        decoder = self._decoder(model, tokenizer, step)
        settings: dict[str, Any] = {"tolerance": self.tolerance, "budget": self.budget, "seed": self.seed + step}
        check = drift(self.encoder, decoder, self.queries, self.pool, **settings)
        gradients, stale = check["gradients"], check["verdict"] == "stale"
        if stale:
            folder = self.output_dir / f"encoder-{step}"
            metrics = refresh(
                self.encoder, self.features, decoder, Folder(folder), share=self.share, seed=self.seed + step
            )
            gradients += metrics["gradients"]["queries"] + metrics["gradients"]["pool"]
            self.encoder, self.features = InfluenceEncoder.load(folder), open_features(folder / "features")
        gradients += self._choose(decoder)
        seconds = time.perf_counter() - began
        agreement = check["agreement_now"]["mean"]
        self.probes.append(Probe(step, check["verdict"], agreement, gradients, stale, round(seconds, 3)))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(self.output_dir / "probes.json", {"probes": [asdict(probe) for probe in self.probes]})

    def _decoder(self, model: Any, tokenizer: Any, step: int) -> Decoder:
        """A copy of the model at this step; training goes on with the original."""
        model_now = copy.deepcopy(model)
        if hasattr(model_now, "merge_and_unload"):  # of PEFT
            model_now = model_now.merge_and_unload()
        record = self.encoder.provenance.decoder
        return Decoder(model_now, tokenizer, name=f"step {step}", max_length=record.max_length if record else 1024)

    def _choose(self, decoder: Decoder) -> int:
        """Keep the rows of the greatest influence on the queries at this state; how many gradients that took.

        Influences are standard scores among the rows, so that all queries count alike. A cosine teacher compares
        directions: a long vector of the encoder means that it is sure, not that the influence is larger.
        """
        teacher = teacher_of_later(self.encoder, decoder)
        gradients = teacher.features(self.queries, "query").refuse_rejected(self.queries).vectors
        queries, rows = self.encoder.project_query(self.queries, gradients), self.encoder.encode_pool(self.pool)
        if teacher.settings.similarity == "cosine":
            rows = unit_rows(rows)
        order = Order.of(standard_scores(queries @ rows.T), self.over)
        self.sampler.keep(order.rows[: max(1, round(self.keep * len(rows)))])
        return len(self.queries)


def standard_scores(influence: Matrix) -> Matrix:
    """(n_queries, n): each query's influences less their mean, in standard deviations."""
    spread = np.maximum(influence.std(axis=1, keepdims=True), 1e-12)
    return np.asarray((influence - influence.mean(axis=1, keepdims=True)) / spread)

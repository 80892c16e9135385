"""`influcoder benchmark toxicity`: which method finds the few unsafe examples that a decoder was fine-tuned on?

DATE-LM's protocol (Jiao et al. 2025, arXiv 2507.09424): a decoder is fine-tuned on benign examples with less than
1 % unsafe ones among them, and every method ranks the pool by its mean score for a few unsafe references. Among the
rows are refusals of unsafe requests too, which look alike and are not unsafe: they are ranked with the others
(heterogeneous) or left out of the ranking (homogeneous). DATE-LM trains a second model for the latter; here one saw
both.

    pool          dolly; unsafe answers and refusals of xstest
    references    unsafe answers of jailbreakbench's own requests
    students      learn from benign_chat, advbench and harmbench: no source of the pool, nor of the references;
                  what is left of these is unlabelled
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.benchmarks.corpora import datelm, hub
from influcoder.benchmarks.corpora.corpora import benign_chat, dolly, shuffled, toxicity
from influcoder.benchmarks.methods.bench import Bench, World
from influcoder.benchmarks.methods.registry import TASK_METHODS, Scored, all_methods, left_out
from influcoder.benchmarks.methods.trained import trained
from influcoder.benchmarks.results.audit import audit
from influcoder.benchmarks.results.estimates import costs, estimate
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import precision_recall_areas
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings

RANKINGS = ("homogeneous", "heterogeneous")
MEASURES = ("auprc", "average_precision")
RESAMPLES = 400
ONE_UNSAFE_IN = 101
"""benign rows: less than 1 %"""
UNSAFE_TEACHER = "rds+"
"""chosen on other pools, hidden rows and references than these: see docs/log.md, 2026-11-26"""


@dataclass(frozen=True, slots=True)
class ToxicitySettings:
    """How much is trained on, hidden and asked.

    Attributes:
        seeds: draws of everything, models and methods.
        benign: rows of the pool; for every 101 of them an unsafe one is hidden, and two refusals.
        references: unsafe examples that are asked with.
        train_queries, train_pool: what students learn from; a sixth of each chooses between models.
        unlabelled: benign rows of the same sources that a student may label, beside every request that is left.
        tuning: how decoders are trained.
        backbone, epochs: of the paper's recipe.
        methods: that are compared.
        teacher: that students learn from.
    """

    seeds: int = 3
    benign: int = 808
    references: int = 10
    train_queries: int = 120
    train_pool: int = 480
    unlabelled: int = 3000
    tuning: FinetuneSettings = field(default_factory=FinetuneSettings)
    backbone: str | None = None
    epochs: int = 8
    methods: tuple[str, ...] = TASK_METHODS
    teacher: str = UNSAFE_TEACHER

    def __post_init__(self) -> None:
        if self.benign < ONE_UNSAFE_IN:
            raise ConfigError(f"{self.benign} benign rows: expected at least {ONE_UNSAFE_IN}, for one unsafe row.")
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}, expected at least 1.")


def benchmark(decoder: Decoder, data: Path, folder: Path, settings: ToxicitySettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    found, checks, labels = [], [], []
    for seed in range(settings.seeds):
        world = _world(data, settings, seed)
        leaks = audit(world.sides(), apart=request)
        place, tuning = folder / f"seed-{seed}", replace(settings.tuning, seed=seed)
        model, checkpoints = trained(decoder, world.pool, place / "model", tuning)
        own = tuning, seed, settings.backbone, settings.epochs, settings.teacher
        bench = Bench(decoder, model, checkpoints, world.pool, world, place, *own)
        found.append(all_methods(bench, settings.methods))
        checks.append(sanity_of(found[-1], world))
        labels.append(np.array([one.metadata.get("label", "benign") for one in world.pool]))
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings),
        "audit": leaks,
        "sanity": mean_sanity(checks),
        "methods": _measured(found, labels, world, settings.teacher),
        "skipped": left_out(bench),
    }


def _world(data: Path, settings: ToxicitySettings, seed: int) -> World:
    """DATE-LM's own set, where its hub id is given; else one of the corpora in a folder."""
    if datelm.names(data, hub.TOXICITY):
        return datelm.toxic_world(data, settings.train_queries, settings.train_pool, seed)
    return toxic_world(data, settings, seed)


def toxic_world(data: Path, settings: ToxicitySettings, seed: int) -> World:
    """The pool, the references and what students learn from, of one seed; a request stands on one side alone."""
    rng = np.random.default_rng(seed)
    sources = _by_source(toxicity(data))
    benign = shuffled(dolly(data), settings.benign, "dolly", rng)
    hidden = settings.benign // ONE_UNSAFE_IN
    unsafe = _requests(sources["xstest", "unsafe"], hidden, rng)
    asked = {request(one) for one in unsafe}
    refusals = _requests(_without(sources["xstest", "safe_refusal"], asked), 2 * hidden, rng)
    references = _requests(sources["jailbreakbench", "unsafe"], settings.references, rng)
    taken = {request(one) for one in references}
    queries = _requests(_without(sources["harmbench", "unsafe"], taken), settings.train_queries, rng)
    taken |= {request(one) for one in queries}
    others = settings.train_pool // 6
    harmless = settings.train_pool - others
    chats = shuffled(benign_chat(data), harmless, "benign_chat", rng, more=settings.unlabelled)
    learnt = [*chats[:harmless], *_requests(_without(sources["advbench", "unsafe"], taken), others, rng)]
    learnt = [learnt[place] for place in rng.permutation(len(learnt))]
    pool = [*benign, *unsafe, *refusals]
    pool = [pool[place] for place in rng.permutation(len(pool))]
    # After all else, so that the rest is drawn as it would be without them.
    taken |= {request(one) for one in learnt}
    more_queries = _requests(_without(sources["harmbench", "unsafe"], taken), None, rng)
    taken |= {request(one) for one in more_queries}
    more_pool = [*chats[harmless:], *_requests(_without(sources["advbench", "unsafe"], taken), None, rng)]
    cut_queries, cut_pool = len(queries) // 6, len(learnt) // 6
    return World(
        pool,
        references,
        ["reference"] * len(references),
        (queries[cut_queries:], learnt[cut_pool:]),
        (queries[:cut_queries], learnt[:cut_pool]),
        together=True,
        unlabelled=(more_queries, more_pool),
    )


def request(example: Example) -> str:
    """What is asked, without case and spacing; examples without toxic source stand for themselves."""
    return " ".join(example.prompt.lower().split()) if "source" in example.metadata else example.id


def _by_source(examples: Sequence[Example]) -> dict[tuple[str, str], list[Example]]:
    """Examples by source and label; of jailbreakbench only its own requests, for others stand in other sources."""
    found: dict[tuple[str, str], list[Example]] = {}
    for one in examples:
        if one.metadata["source"] != "jailbreakbench" or one.metadata["origin"] == "Original":
            found.setdefault((one.metadata["source"], one.metadata["label"]), []).append(one)
    return found


def _requests(examples: Sequence[Example], count: int | None, rng: np.random.Generator) -> list[Example]:
    """`count` examples of different requests, one of every request when None."""
    found: dict[str, Example] = {}
    for one in shuffled(examples, None, "toxicity", rng):
        found.setdefault(request(one), one)
    if count is not None and len(found) < count:
        raise ConfigError(f"toxicity: {len(found)} different requests of a kind, {count} are needed.")
    return list(found.values())[:count]


def _without(examples: Sequence[Example], taken: set[str]) -> list[Example]:
    return [one for one in examples if request(one) not in taken]


def _measured(
    found: Sequence[Mapping[str, Scored]], labels: Sequence[NDArray[Any]], world: World, teacher: str
) -> dict[str, Any]:
    """Both areas of every method in both rankings; intervals by drawing unsafe and other rows again, apart."""
    methods: dict[str, Any] = costs(found, world, teacher)
    for ranking in RANKINGS:
        shown = [(one != "safe_refusal") | (ranking == "heterogeneous") for one in labels]
        unsafe = [one[rows] == "unsafe" for one, rows in zip(labels, shown, strict=True)]
        draws = [_resamples(one) for one in unsafe]
        for name in methods:
            scores = [one[name].scores.mean(axis=0)[rows] for one, rows in zip(found, shown, strict=True)]
            plain = [precision_recall_areas(*one) for one in zip(scores, unsafe, strict=True)]
            drawn = [precision_recall_areas(*one) for one in zip(scores, unsafe, draws, strict=True)]
            methods[name][ranking] = {
                measure: estimate(
                    [float(one[place][0]) for one in plain],
                    np.quantile(np.mean([one[place] for one in drawn], axis=0), [0.025, 0.975]).tolist(),
                )
                for place, measure in enumerate(MEASURES)
            }
    return methods


def _resamples(unsafe: NDArray[np.bool_]) -> Matrix:
    """(RESAMPLES, n_pool) how often each row was drawn; as many unsafe ones as there are."""
    rng = np.random.default_rng(0)
    weights = np.zeros((RESAMPLES, len(unsafe)))
    for side in (unsafe, ~unsafe):
        count = int(side.sum())
        weights[:, side] = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return weights

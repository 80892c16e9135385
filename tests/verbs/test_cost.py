"""`distill --cost`: the best student of those that cost little enough."""

import json
import math
from types import SimpleNamespace

import pytest

from helpers.sentences import sentences
from helpers.tiny import save_decoder
from influcoder.errors import ConfigError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.store.output_folder import Folder
from influcoder.student.effort import DIAL, FORWARD, SHORT, STATIC, Effort
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs import cost
from influcoder.verbs import features as feature_verbs
from influcoder.verbs.distill import distill


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer):
    """A decoder, and features of it."""
    folder = tmp_path_factory.mktemp("cost")
    decoder = Decoder.load(save_decoder(folder / "decoder", tokenizer), device="cpu")
    settings = TeacherSettings(rank=2, width=64, precision="fp32")
    sides = sentences(30, 1, "q"), sentences(60, 2, "p")
    feature_verbs.features(decoder, *sides, Folder(folder / "features"), settings)
    return decoder, FeaturesFolder(folder / "features")


@pytest.fixture
def costs(monkeypatch):
    """A gradient takes a second, what an effort takes follows from its knobs."""
    monkeypatch.setattr(cost, "seconds_of_gradient", lambda teacher, rows: 1.0)
    share = {effort: 0.0 if effort == STATIC else 0.01 * (place + 1) for place, effort in enumerate(DIAL)}
    monkeypatch.setattr(cost, "seconds_a_row", lambda effort, teacher, rows: share[effort])
    return share


def test_only_what_is_cheap_enough_is_tried(costs):
    found = cost.cheap_enough(0.045, None, [])
    assert found == {effort: share for effort, share in costs.items() if share <= 0.045}
    assert STATIC in found
    assert len(found) == 4


@pytest.mark.parametrize("share", [0, -1, 1.5, math.nan])
def test_a_cost_is_a_share_of_a_gradient(share):
    with pytest.raises(ConfigError, match="expected a share of a gradient above 0 and at most 1"):
        cost.cheap_enough(share, None, [])


def test_the_best_on_validation_is_kept():
    agreement = {STATIC: 0.3, FORWARD: 0.6, SHORT: 0.5}
    solve = lambda effort: SimpleNamespace(measured={"per_query_spearman": agreement[effort]}, of=effort)  # noqa: E731
    student, effort, tried = cost.best_student({STATIC: 0.0, FORWARD: 0.2, SHORT: 0.4}, solve)
    assert student.of == effort == FORWARD
    assert [(each.effort, each.cost, each.agreement) for each in tried] == [
        (STATIC, 0.0, 0.3),
        (FORWARD, 0.2, 0.6),
        (SHORT, 0.4, 0.5),
    ]


def test_costs_are_measured_and_reading_more_takes_longer(made):
    decoder, features = made
    teacher = features.teacher(decoder)
    seconds = cost.seconds_a_row(FORWARD, teacher, features.sample.pool)
    assert 0 == cost.seconds_a_row(STATIC, teacher, features.sample.pool) < seconds < 1
    assert cost.seconds_a_row(SHORT, teacher, features.sample.pool) < 1


def test_what_cannot_be_run_costs_infinitely_much(made, monkeypatch):
    decoder, features = made
    teacher = features.teacher(decoder)

    def refuse(effort, decoder):
        raise ModelError("no list of its layers")

    monkeypatch.setattr(cost, "forward_reader", refuse)
    assert cost.seconds_a_row(Effort(0.5), teacher, features.sample.pool) == math.inf
    monkeypatch.setattr(teacher, "checkpoints", ["a"], raising=False)
    assert cost.seconds_a_row(SHORT, teacher, features.sample.pool) == math.inf


def test_distilling_keeps_what_was_tried(made, costs, tmp_path):
    decoder, features = made
    metrics = distill(features, Folder(tmp_path / "e"), cost=0.1, decoder=decoder)
    assert json.loads((tmp_path / "e" / "metrics.json").read_text()) == metrics
    found, tried = metrics["cost"], metrics["students"]
    assert found["asked"] == 0.1
    assert len(tried) == sum(share <= 0.1 for share in costs.values())
    best = max(tried, key=lambda each: each["agreement"])
    encoder = InfluenceEncoder.load(tmp_path / "e", decoder=decoder)
    assert Effort.of(encoder.settings) == Effort(**best["effort"])
    assert found["reads"] == best["reads"]
    assert found["measured"] == best["cost"] <= 0.1
    assert encoder.measured["per_query_spearman"] == best["agreement"]
    assert encoder.encode_pool(features.sample.pool[:3]).any()


@pytest.mark.usefixtures("costs")
def test_pseudo_labels_teach_what_was_chosen(made, tmp_path):
    decoder, features = made
    unlabelled = ([], sentences(20, 93, "more"))
    metrics = distill(features, Folder(tmp_path / "e"), cost=0.005, decoder=decoder, unlabelled=unlabelled)
    assert metrics["tier"] == "static"
    assert metrics["splits"]["pseudo_pool"] == 20
    assert InfluenceEncoder.load(tmp_path / "e").provenance.student.pseudo_pool == 20


@pytest.mark.parametrize("wrong", [{"decoder": None}, {"recipe": "short"}, {"recipe": "paper"}])
def test_what_a_cost_does_not_go_with(made, tmp_path, wrong):
    decoder, features = made
    with pytest.raises(ConfigError, match="give --decoder, and leave --recipe out"):
        distill(features, Folder(tmp_path / "e"), **{"cost": 0.1, "decoder": decoder, **wrong})
    with pytest.raises(ConfigError, match="leave --recipe, --cost"):
        distill(features, Folder(tmp_path / "e"), cost=0.1, decoder=decoder, earlier="encoder")

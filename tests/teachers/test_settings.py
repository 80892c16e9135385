from dataclasses import asdict, replace

import pytest

from influcoder.errors import ConfigError
from influcoder.provenance import Provenance
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import FORWARD, TEACHERS, TeacherSettings


@pytest.mark.parametrize("name", TEACHERS)
def test_named_settings_know_their_name(name):
    settings = TeacherSettings.named(name)
    assert settings.name == name
    assert {key: getattr(settings, key) for key in TEACHERS[name][1]} == TEACHERS[name][1]
    assert TEACHERS[name][0]


@pytest.mark.parametrize("name", TEACHERS)
def test_settings_read_back_from_what_a_store_records(name):
    settings = TeacherSettings.named(name, rank=3, seed=5)
    record = settings.record(bf16=False)
    assert TeacherSettings.read(record) == replace(settings, precision="fp32")
    old = {"teacher": name, **asdict(settings), "decoder": "x", "tokenizer": "y", "fitted": "z"}  # versions before 0.2
    assert TeacherSettings.read(Provenance.read(old).teacher) == settings


def test_changes_of_none_are_left_out():
    assert TeacherSettings.named("logra", rank=None, seed=None) == TeacherSettings.named("logra")
    assert TeacherSettings.named("logra", seed=4).seed == 4


def test_unknown_teacher_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"teacher is 'logr', expected one of gradient-cosine, .*logra.*rds\+"):
        TeacherSettings.named("logr")


@pytest.mark.parametrize("name", ["rank", "kept", "fit_examples", "token_budget"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is 0, expected at least 1"):
        TeacherSettings(**{name: 0})


@pytest.mark.parametrize("name", ["width", "code_rank"])
def test_numbers_below_zero_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is -1, expected at least 0"):
        TeacherSettings(**{name: -1})


@pytest.mark.parametrize("damping", [0, -1, float("nan")])
def test_damping_must_be_above_zero(damping):
    with pytest.raises(ConfigError, match=r"damping is .* expected a number above 0"):
        TeacherSettings(damping=damping)


@pytest.mark.parametrize("name", ["source", "curvature", "similarity", "precision"])
@pytest.mark.parametrize("value", ["fp16", "", None])
def test_unknown_choices_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} is {value!r}, expected one of \w"):
        TeacherSettings(**{name: value})


@pytest.mark.parametrize("changes", [{"width": 64}, {"width": 0, "curvature": "subspace"}])
def test_low_rank_code_needs_layers_matrices(changes):
    with pytest.raises(ConfigError, match="code_rank takes layers' matrices as they are: give width 0"):
        TeacherSettings(code_rank=1, **changes)


def test_settings_are_values():
    settings = TeacherSettings()
    assert settings == TeacherSettings()
    assert replace(settings, seed=1) != settings
    assert hash(settings) == hash(TeacherSettings())


def test_each_source_has_its_kind_of_teacher(decoder):
    for name in TEACHERS:
        settings = TeacherSettings.named(name, rank=2)
        if settings.adam or settings.source == "adapter":
            continue
        kind = ForwardTeacher if settings.source in FORWARD else GradientTeacher
        assert type(make_teacher(decoder, settings)) is kind


def test_default_is_the_papers_teacher(decoder):
    assert make_teacher(decoder).settings == TeacherSettings.named("gradient-cosine") == TeacherSettings()


def test_adapter_teacher_needs_an_adapter(decoder):
    with pytest.raises(ConfigError, match="was loaded without a plain LoRA adapter"):
        make_teacher(decoder, TeacherSettings.named("adapter"))

"""How much of the decoder a student runs."""

import orjson
import pytest

from influcoder.student.effort import BY_TIER, DIAL, FORWARD, SHORT, STATIC, Effort


@pytest.mark.parametrize("effort", DIAL)
def test_an_encoders_settings_tell_its_effort(effort):
    kept = orjson.loads(orjson.dumps(effort.settings()))
    assert Effort.of(kept) == effort
    assert kept["tier"] == effort.tier


@pytest.mark.parametrize(
    ("settings", "effort"),
    [
        ({"tier": "short", "short_tokens": 40}, Effort(1.0, 40, backward=True)),
        ({"tier": "forward"}, FORWARD),
        ({"tier": "static"}, STATIC),
        ({"tier": "transformer"}, STATIC),
        ({}, STATIC),
    ],
)
def test_encoders_from_before_the_dial_are_read(settings, effort):
    assert Effort.of(settings) == effort


def test_every_effort_has_a_name_of_its_own():
    assert len({str(effort) for effort in DIAL}) == len(DIAL)
    assert {"static": STATIC, "forward": FORWARD, "short": SHORT} == BY_TIER
    assert [str(Effort(1.0, 40, backward=True)), str(Effort(0.5))] == [
        "backward, 40 tokens",
        "50 % of the layers forward, all tokens",
    ]

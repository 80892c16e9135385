"""What a page shows of the queries: each with its rows, and the answers after a training without them."""

from typing import Any

from influcoder.report.numbers import number, numbers, pair, sign_of
from influcoder.report.sentences import agreement_sentence, certified_sentence, trained_without
from influcoder.report.tokens import lit_tokens

SIDES = ("proponents", "opponents")


def query_parts(query: dict[str, Any], key: str, removed: int | None) -> dict[str, Any]:
    """A query of `report.json`: its histogram, its rows compared with the null band, and its answers compared.

    Args:
        key: what ids on the page start with.
        removed: how many rows the models of the proof were trained without; None where there is no proof.
    """
    from influcoder.report.figures import histogram

    band = pair(query.get("null_band"))
    sides = {side: [_hit(hit, band) for hit in query.get(side) or []] for side in SIDES}
    hits = [hit for side in sides.values() for hit in side]
    scores = [hit["score"] for hit in hits if hit["score"] is not None]
    bins = query.get("histogram") or {}
    parts = {
        "key": key,
        "band": band,
        "figure": histogram(key, numbers(bins.get("edges")), numbers(bins.get("counts")), band, scores),
        "lit": any(hit["lit_tokens"] for hit in hits),
        "some_inside": any(hit["inside"] for hit in hits),
        "remark": _remark(sides["opponents"]),
        "trust": _trust(query),
        "proof": None if removed is None else _answers(query.get("proof") or {}, removed),
    }
    return query | sides | parts


def proof_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of the proof in words, with their numbers and intervals; none where nothing was proved."""
    removed = removed_rows(metrics)
    return [
        {
            "trained": trained_without(name, removed),
            "changed": number(values, "changed"),
            "changed_interval": pair(values.get("changed_interval")),
            "loss": number(values, "loss"),
            "loss_change": number(values, "loss_change"),
            "loss_change_interval": pair(values.get("loss_change_interval")),
        }
        for name, values in (metrics.get("conditions") or {}).items()
        if removed is not None
    ]


def removed_rows(metrics: dict[str, Any]) -> int | None:
    """How many rows the models of the proof were trained without."""
    removed = number(metrics, "removed")
    return None if removed is None or not metrics.get("conditions") else int(removed)


def _answers(answers: dict[str, str], removed: int) -> list[dict[str, Any]]:
    """The model's answer under each condition, and whether it differs from the one before."""
    if not answers:
        return []
    from influcoder.evaluation.proof import is_same_answer

    before = answers.get("all")
    return [
        {
            "trained": trained_without(name, removed),
            "answer": answer,
            "changed": before is not None and not is_same_answer(before, answer),
        }
        for name, answer in answers.items()
    ]


def _trust(query: dict[str, Any]) -> list[str]:
    """How far the rows of one query can be trusted."""
    sentences = []
    expected, certified = query.get("expected_agreement"), query.get("certified")
    if expected:
        sentences.append(agreement_sentence([expected[name] for name in ("rho", "low", "high")]))
    if certified:
        from influcoder.attribution.certified import Certified

        sentences.append(certified_sentence(Certified(**certified), len(query.get("proponents") or [])))
    return sentences


def _remark(opponents: list[dict[str, Any]]) -> str:
    """A remark on opponents that do not push away: where few rows do, the lowest others are shown beside them."""
    towards = [hit["sign"] == "up" for hit in opponents]
    if not any(towards):
        return ""
    if all(towards):
        return "No row was found that pushes away; these push towards it least."
    return "Only the rows marked ▼ push away; the others push towards it least."


def _hit(hit: dict[str, Any], band: tuple[float, float] | None) -> dict[str, Any]:
    """A row; its direction is the sign of the exact score if there is one, otherwise of the estimate."""
    score, exact = number(hit, "score"), number(hit, "exact")
    strength = score if exact is None else exact
    sign = sign_of(strength)
    inside = exact is None and score is not None and band is not None and band[0] <= score <= band[1]
    glyph = {"up": "▲", "down": "▼", "zero": "○"}[sign]
    lit = {f"lit_{name}": lit_tokens(hit.get(name) or []) for name in ("tokens", "answer_tokens")}
    return hit | lit | {"score": score, "exact": exact, "sign": sign, "glyph": glyph, "inside": inside}

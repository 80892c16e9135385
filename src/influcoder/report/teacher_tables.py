"""What the terminal shows of teachers: their list, and how far their numbers can be relied on."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from influcoder.report.console import Console

RELIABILITY = {
    "seeds": "another seed",
    "sketched": "without the sketch",
    "projected": "whole gradients",
    "precision": "float32 products",
}


def print_teachers() -> None:
    """The named teachers, a line each."""
    from influcoder.teachers.settings import TEACHERS, TeacherSettings

    table = Table(title="Teachers", title_justify="left")
    for name in ("name", "what it is", "compared by", "learns from a sample"):
        table.add_column(name)
    for name, (what, _) in TEACHERS.items():
        settings = TeacherSettings.named(name)
        table.add_row(name, what, settings.similarity, "yes" if settings.learns else "")
    Console().print(table)


def print_check(teacher: str, found: Mapping[str, Any]) -> None:
    """The numbers of a self-check and of a teacher's agreement with itself."""
    checked, agrees = found["self_check"], found["reliability"]
    console = Console()
    what = f"Gradients of {checked['layers']} layers" if checked["layers"] else "Features"
    other = "plain autograd's" if checked["layers"] else "those of an example alone"
    console.print(
        f"{what}, {checked['examples']} examples in a batch: at most {checked['error']:.1e} of their length from "
        f"{other}."
    )
    if checked["bf16_cosine"] is not None:
        console.print(f"bfloat16 against float32: cosine at least {checked['bf16_cosine']:.4f}.")
    table = Table(title=f"How well {teacher} agrees with itself (per-query ρ)", title_justify="left")
    table.add_column("changed")
    table.add_column("ρ", justify="right")
    for key, what in RELIABILITY.items():
        table.add_row(what, "-" if agrees[key] is None else f"{agrees[key]:.3f}")
    console.print(table)

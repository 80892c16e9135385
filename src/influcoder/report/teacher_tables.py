"""What the terminal shows of teachers: their list, and how reliable their numbers are."""

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
    """The named teachers, one per line."""
    from influcoder.teachers.settings import TEACHERS, TeacherSettings

    table = Table(title="Teachers", title_justify="left")
    for name in ("name", "what it is", "compared by", "learns from a sample"):
        table.add_column(name)
    for name, (description, _) in TEACHERS.items():
        settings = TeacherSettings.named(name)
        table.add_row(name, description, settings.similarity, "yes" if settings.learns else "")
    Console().print(table)


def print_check(teacher: str, metrics: Mapping[str, Any]) -> None:
    """The numbers of a self-check and of a teacher's agreement with itself."""
    check, agreement = metrics["self_check"], metrics["reliability"]
    console = Console()
    quantity = f"Gradients of {check['layers']} layers" if check["layers"] else "Features"
    reference = "plain autograd's" if check["layers"] else "those of an example alone"
    console.print(
        f"{quantity}, {check['examples']} examples in a batch: at most {check['error']:.1e} of their length from "
        f"{reference}."
    )
    if check["bf16_cosine"] is not None:
        console.print(f"bfloat16 against float32: cosine at least {check['bf16_cosine']:.4f}.")
    table = Table(title=f"How well {teacher} agrees with itself (per-query ρ)", title_justify="left")
    table.add_column("changed")
    table.add_column("ρ", justify="right")
    for key, change in RELIABILITY.items():
        table.add_row(change, "-" if agreement[key] is None else f"{agreement[key]:.3f}")
    console.print(table)

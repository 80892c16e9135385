"""The chain: does each part come from the one before it, and what follows if it does?"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from influcoder.audit.checks import Opened, check_part
from influcoder.audit.conclusions import conclusions
from influcoder.audit.findings import Findings
from influcoder.audit.links import refuse_others
from influcoder.audit.parts import NEEDS, Part, find_parts
from influcoder.progress import progress
from influcoder.provenance import DecoderRecord
from influcoder.store.files import read_sealed, sha256
from influcoder.version import __version__

SCHEMA = 1
TRACE = "trace.json"


def audit(run: Path, *, decoder: Path | None = None, adapter: str | None = None) -> dict[str, Any]:
    """Check every part of a run and how they follow from each other.

    Args:
        run: a folder that holds the parts, or one of them.
        decoder: the decoder, where the run does not say where it is; with its adapter, if it had one.

    Returns:
        `verdict` ("verified", "broken" or "incomplete"), `parts` with the SHA-256 of their files, `findings`, and what
        `can` and `cannot` be concluded, in sentences.

    Raises:
        ConfigError: there is nothing to audit.
    """
    parts = find_parts(run, decoder, adapter)
    names = {part: _name(part, run) for part in parts}
    findings = Findings()
    opened: list[Opened] = []
    if (run / TRACE).exists():
        findings.check(
            TRACE, "what was decided before the work began has its hash", lambda: read_sealed(run / TRACE, 1)
        )
    of_parts: list[Findings] = []
    with progress("checking hashes", len(parts)) as advance:
        for part in reversed(parts):  # how much a decoder reads is known by those after it
            of_parts.insert(0, Findings())
            opened.insert(0, check_part(part, names[part], of_parts[0], _max_length(opened)))
            advance(1)
    findings += [one for found in of_parts for one in found]
    for one in opened:
        for kind in NEEDS[one.part.kind]:
            sources = [other for other in opened if other.part.kind == kind]
            what = f"it comes from this run's {kind}"
            if sources:
                findings.check(one.name, what, partial(refuse_others, one, sources))
            else:
                remedy = "; name it with --decoder" if kind == "decoder" else ""
                told = f"no {kind} is in the run, and none is where config.toml names it{remedy}"
                findings.missing(one.name, what, told)
    can, cannot = conclusions(opened, findings)
    return {
        "schema": SCHEMA,
        "run": str(run),
        "version": __version__,
        "verdict": findings.verdict,
        "parts": [
            {"kind": one.part.kind, "name": one.name, "path": str(one.part.path.absolute()), "files": _hashes(one.part)}
            for one in opened
        ],
        "findings": [asdict(one) for one in findings],
        "can": can,
        "cannot": cannot,
    }


def _name(part: Part, run: Path) -> str:
    """How a part is called: its place in the run, or its whole path elsewhere."""
    path = part.path.absolute()
    place = path.relative_to(run.absolute()) if path.is_relative_to(run.absolute()) else path
    name = str(place) if str(place) != "." else path.name
    return part.kind if name == part.kind else f"{part.kind} {name}"


def _max_length(opened: Sequence[Opened]) -> int:
    lengths = [record.max_length for one in opened if (record := _decoder_of(one)) is not None]
    return lengths[0] if lengths else 1024


def _decoder_of(one: Opened) -> DecoderRecord | None:
    return one.provenance.decoder if one.provenance is not None else None


def _hashes(part: Part) -> dict[str, str]:
    """The SHA-256 of every file of a part; a decoder's folder may hold other folders, which are left out."""
    paths = part.path.glob("*") if part.kind == "decoder" else part.path.rglob("*")
    return {path.relative_to(part.path).as_posix(): sha256(path) for path in sorted(paths) if path.is_file()}

"""The chain: does each part come from the one before it, and what can be concluded if it does?"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from influcoder.audit.checks import Opened, check_part
from influcoder.audit.conclusions import conclusions
from influcoder.audit.findings import Finding, Findings
from influcoder.audit.links import refuse_other_sources
from influcoder.audit.parts import NEEDS, Part, find_parts
from influcoder.progress import progress
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
    findings = Findings()
    if (run / TRACE).exists():
        findings.check(
            TRACE, "what was decided before the work began has its hash", lambda: read_sealed(run / TRACE, 1)
        )
    chain: list[Opened] = []
    by_part: list[Findings] = []
    with progress("checking hashes", len(parts)) as advance:
        for part in reversed(parts):  # the parts made from a decoder record how much it reads
            by_part.insert(0, Findings())
            chain.insert(0, check_part(part, _name(part, run), by_part[0], _max_length(chain)))
            advance(1)
    findings += [finding for of_part in by_part for finding in of_part]
    for opened in chain:
        for kind in NEEDS[opened.part.kind]:
            sources = [source for source in chain if source.part.kind == kind]
            claim = f"it comes from this run's {kind}"
            if sources:
                findings.check(opened.name, claim, partial(refuse_other_sources, opened, sources))
            else:
                remedy = "; name it with --decoder" if kind == "decoder" else ""
                detail = f"no {kind} is in the run, and none is where config.toml names it{remedy}"
                findings.append(Finding(opened.name, claim, "missing", detail))
    can, cannot = conclusions(chain, findings)
    return {
        "schema": SCHEMA,
        "run": str(run),
        "version": __version__,
        "verdict": findings.verdict,
        "parts": [
            {
                "kind": opened.part.kind,
                "name": opened.name,
                "path": str(opened.part.path.absolute()),
                "files": _hashes(opened.part),
            }
            for opened in chain
        ],
        "findings": [asdict(finding) for finding in findings],
        "can": can,
        "cannot": cannot,
    }


def _name(part: Part, run: Path) -> str:
    """The kind of a part, with its path in the run, or its whole path where it is elsewhere."""
    path = part.path.absolute()
    relative = path.relative_to(run.absolute()) if path.is_relative_to(run.absolute()) else path
    name = str(relative) if str(relative) != "." else path.name
    return part.kind if name == part.kind else f"{part.kind} {name}"


def _max_length(chain: Sequence[Opened]) -> int:
    """Tokens that the decoder of a chain is recorded to read."""
    records = (opened.provenance.decoder for opened in chain if opened.provenance is not None)
    return next((record.max_length for record in records if record is not None), 1024)


def _hashes(part: Part) -> dict[str, str]:
    """The SHA-256 of every file of a part; a decoder's folder may hold other folders, which are left out."""
    paths = part.path.glob("*") if part.kind == "decoder" else part.path.rglob("*")
    return {path.relative_to(part.path).as_posix(): sha256(path) for path in sorted(paths) if path.is_file()}

"""What `influcoder select` leaves in a folder.

selection.parquet   every row of the pool with score, percentile, rank and reason
kept.jsonl          the rows that are kept, in the pool's own columns; or kept.parquet, or the data set kept/
README.md           a fragment for the card of a data set
selection.json      written last: rule, index, encoder and queries by their hashes, and the SHA-256 of the files above
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from influcoder.attribution.kept_rows import Format, write_kept
from influcoder.attribution.selection import FILE, Selection
from influcoder.errors import StoreCorrupt, StoreMismatch
from influcoder.indexes.index import Index
from influcoder.store import hub
from influcoder.store.files import atomic_write, read_sealed, sha256, write_sealed
from influcoder.store.hub import Destination
from influcoder.student.card import CARD, card_of_encoder_parts, front_matter, lines_of
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.hub import evidence

RECORD = "selection.json"
FORMAT = 1
MOST_VALUES = 20
"""values of a column whose counts the card shows"""


def write_folder(
    selection: Selection,
    index: Index,
    folder: Path,
    form: Format = "jsonl",
    card: str | None = None,
    masks: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write a selection into a folder that the caller has claimed.

    Args:
        card: that of `selection_card` when omitted.
        masks: a loss mask of each kept row, written beside its own columns.

    Raises:
        StoreMismatch, DataError: as `influcoder.attribution.kept_rows.write_kept`.
    """
    files = write_kept(index, selection.is_kept, folder, form, masks)
    selection.save(folder / FILE)
    atomic_write(folder / CARD, (card or selection_card(selection, index.encoder)).encode())
    record = {
        "format": FORMAT,
        "manifest": selection.manifest,
        "made_by": dict(selection.made_by),
        "rows": len(selection.ids),
        "kept": int(selection.is_kept.sum()),
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in (folder / FILE, folder / CARD, *files)},
    }
    write_sealed(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """What selection.json holds, once every file that it names was found to be the one that was written.

    Raises:
        StoreCorrupt: it or a file is not.
        StoreMismatch: of another format version.
    """
    record = read_sealed(folder / RECORD, FORMAT)
    if record.get("format") != FORMAT:
        raise StoreMismatch(f"{folder / RECORD}: format {record.get('format')}, this version reads {FORMAT}.")
    for name, expected in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise StoreCorrupt(f"{path}: missing, or its bytes are not those that were written. Select again.")
    return record


def open_pushed(
    name: str | Path,
    **where: Any,
) -> Selection:
    """See `Selection.from_pretrained`."""
    folder = hub.fetch(name, "`influcoder select`", RECORD, kind="dataset", **where)
    hub.refuse_code(folder, (FILE,))
    read_record(folder)
    return Selection.load(folder)


def push(
    selection: Selection, index: Index, to: Destination, *, proof: Path | None = None, license: str | None = None
) -> str:
    """See `Selection.push_to_hub`."""
    card = selection_card(selection, index.encoder, proof=evidence(proof), license_name=license)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_folder(replace(selection, index=None), index, folder, "parquet", card)  # where the index lies is private
        return hub.push(folder, to, "selection", kind="dataset")


def selection_card(
    selection: Selection,
    encoder: InfluenceEncoder,
    *,
    proof: Mapping[str, Any] | None = None,
    license_name: str | None = None,
) -> str:
    """A fragment for the card of a data set: what was kept and dropped and why, by what, and how far to trust it.

    Args:
        proof: the metrics.json of `influcoder prove`, where a proof was made.
        license_name: of the rows, as the hub spells it.
    """
    counts = selection.counts()
    shares = lines_of("| {} | {:,} |", sorted(counts["reasons"].items()))
    sections = "".join(_values(name, values) for name, values in counts.get("by", {}).items())
    teacher = encoder.provenance.teacher
    about = card_of_encoder_parts(
        encoder,
        proof,
        "A score is an estimate for the queries that were given; for another behaviour it says nothing.",
    )
    return f"""{front_matter("data-selection", license_name=license_name)}
# Rows selected by influence

{counts["kept"]:,} of {counts["rows"]:,} rows are kept: {counts["rule"]}. A score estimates how much training on a row
raises the likelihood of the queries' completions, by an encoder distilled from the teacher
`{teacher.name if teacher else "unknown"}`. `selection.parquet` has every row with score, percentile, rank and reason.

| rows | |
|---|---|
{shares}
{sections}
To select again: `influcoder run config.toml --overwrite`. By another rule, from the same scores:
`influcoder select --from FOLDER --top 5% --output-dir OTHER`.

{about}
"""


def _values(name: str, values: Mapping[str, Mapping[str, int]]) -> str:
    first = sorted(values.items(), key=lambda item: -item[1]["kept"])[:MOST_VALUES]
    more = f"\n{len(values) - MOST_VALUES} more values.\n" if len(values) > MOST_VALUES else ""
    rows = lines_of("| {} | {:,} | {:,} |", [(value, item["kept"], item["dropped"]) for value, item in first])
    return f"\n| {name} | kept | dropped |\n|---|---|---|\n{rows}\n{more}"

"""The verb `export`, where it writes a map for Embedding Atlas."""

import shlex
from pathlib import Path
from typing import Any

from influcoder.attribution.atlas import FILE, atlas_command, write_atlas
from influcoder.attribution.search import asked_vectors
from influcoder.store.output_folder import Folder
from influcoder.student.encoder_folder import teacher_of
from influcoder.verbs.opening import AnyDecoder, AnyIndex, open_any_index, open_whole_index
from influcoder.verbs.search import questions, refuse_no_question


def atlas(
    index: AnyIndex,
    folder: Folder,
    prompt: str | None = None,
    completion: str | None = None,
    decoder: AnyDecoder | None = None,
    adapter: str | Path | None = None,
) -> dict[str, Any]:
    """Write `atlas.parquet` of an index, with the influence of every row on a question if one is given.

    Returns:
        how many rows it has, its columns, and the command that opens it.

    Raises:
        ConfigError: half a question, or the index is in LanceDB.
        StoreError: not an index, or the folder cannot be written.
    """
    has_question = prompt is not None or completion is not None
    if has_question:
        refuse_no_question(None, prompt, completion, decoder)
    opened, loaded = open_any_index(index, decoder, adapter)
    index, vector = open_whole_index(opened), None
    if has_question:
        teacher = None if loaded is None else teacher_of(index.encoder, loaded)
        vector = asked_vectors(index, questions(None, prompt, completion, loaded), teacher)[0]
    with folder.claim() as path:
        facts = write_atlas(index, path, vector)
    return facts | {"command": shlex.join(atlas_command(folder.path / FILE))}

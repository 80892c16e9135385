"""The verb `export`: an index for LanceDB or for Embedding Atlas."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from influcoder.cli.flags import NO_TRUST, Flag, Output, Trust
from influcoder.cli.output import finish
from influcoder.errors import ConfigError


def export(
    *,
    output: Output,
    index: Path,
    format: Literal["lance", "atlas"] = "lance",
    lance: str | None = None,
    table: str = "influcoder",
    approximate: Flag = False,
    prompt: Annotated[str | None, Parameter(name=["--prompt", "--query"])] = None,
    completion: str | None = None,
    decoder: str | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
) -> None:
    """Copy an index into LanceDB, where `search` then searches it; or write a map of it for Embedding Atlas.

    --format atlas writes atlas.parquet and prints the command that opens it: the text, region, place and neighbours of
    every row, and its influence on a question if one is given.

    Args:
        index: what `influcoder index` wrote
        format: lance for pools too large for one machine, atlas to look at one
        lance: the database: a folder, or a URI that LanceDB connects to, as s3://bucket/path
        table: its name in the database; one of that name is replaced
        approximate: let LanceDB make an IVF-PQ index of it
        prompt: for atlas: what the model is asked
        completion: what it answers; the decoder's own answer when omitted
        decoder: the decoder the encoder was distilled from: the question's own gradient is then used
        adapter: its LoRA adapter, if it had one
    """
    arguments = dict(locals())
    from influcoder.indexes import lance as lancedb
    from influcoder.verbs.export import atlas
    from influcoder.verbs.opening import open_whole_index

    if (format == "lance") != (lance is not None):
        raise ConfigError("give --lance URI to copy the index into LanceDB, or --format atlas without it for a map.")
    question = {"--prompt": prompt, "--completion": completion, "--decoder": decoder, "--adapter": adapter}
    if lance is not None:
        if given := [name for name, value in question.items() if value is not None]:
            raise ConfigError(f"{given[0]} is for --format atlas. Leave it out, or leave --lance out.")
        opened, folder = open_whole_index(index), output.folder(arguments)
        facts = lancedb.export(opened, lance, folder, table=table, approximate=approximate)
        finish("export", arguments, facts, output)
        return
    if approximate:
        raise ConfigError("--approximate is for LanceDB. Leave it out, or give --lance URI.")
    facts = atlas(index, output.folder(arguments), prompt, completion, decoder, adapter)
    finish("export", arguments, facts, output, shown=f"{facts['rows']:,} rows. Look at them with\n{facts['command']}")

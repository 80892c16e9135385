"""The verb `show`: what a decoder reads of some rows."""

from itertools import islice

from influcoder.cli.flags import NO_TRUST, READ_AS_USUAL, Files, Flag, Reading, Trust
from influcoder.cli.output import print_json
from influcoder.errors import ConfigError


def show(
    *,
    decoder: str,
    pool: Files,
    rows: int = 3,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    max_length: int = 1024,
    reading: Reading = READ_AS_USUAL,
    json: Flag = False,
) -> None:
    """Show what the decoder reads of the first rows: the text as its chat template writes it, the loss marked.

    Args:
        decoder: Hugging Face folder or hub id of a causal LM
        pool: JSONL (.gz, .zst) or Parquet files, folders or globs; of queries as well
        rows: how many to show
        adapter: a PEFT LoRA adapter of the decoder
        max_length: tokens of an example that are read
        json: print texts, token ids and counts as JSON
    """
    from influcoder.data.reading import stream_examples
    from influcoder.data.row_files import find_files
    from influcoder.model.decoder import Decoder
    from influcoder.report.console import print_shown
    from influcoder.verbs import show as verb

    if rows < 1:
        raise ConfigError(f"--rows is {rows}, expected at least 1.")
    files = [path for pattern in pool for path in find_files(pattern)]
    loaded = Decoder.load(decoder, adapter=adapter, max_length=max_length)
    examples = stream_examples(
        files,
        columns=reading.columns(),
        on_error=reading.on_error,
        max_reject_rate=reading.max_reject_rate,
        prepare=loaded.prepare,
    )
    shown = verb.show(loaded, list(islice(examples, rows)))
    if json:
        print_json(shown)
    else:
        print_shown(shown)

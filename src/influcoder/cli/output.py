"""What a verb outputs: its metrics on stdout, and the config.toml that runs it again."""

import glob
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from influcoder.cli.flags import INPUTS, Output, flat

_NOT_REPLAYED = {"resume", "overwrite", "json", "workers", "ray", "worker_timeout", "shard"} | {"trust_remote_code"}


def finish(
    verb: str, arguments: Mapping[str, Any], metrics: Mapping[str, Any], output: Output, *, shown: str = ""
) -> None:
    """Write the verb's config and print its metrics, or a text in their place."""
    write_config(output.output_dir, verb, arguments)
    show(metrics, output, shown=shown)


def show(metrics: Mapping[str, Any], output: Output, *, shown: str = "") -> None:
    """Print a verb's metrics, or a text in their place."""
    from influcoder.report.console import print_numbers

    if output.json:
        print_json(metrics)
    elif shown:
        print(shown)  # noqa: T201
    else:
        print_numbers(metrics, output.output_dir)


def write_config(folder: Path, verb: str, arguments: Mapping[str, Any]) -> None:
    """The config.toml that `influcoder run` replays: paths absolute, defaults included."""
    from influcoder.store.files import atomic_write

    lines = [f"verb = {json.dumps(verb)}"]
    for name, value in flat(arguments).items():
        if value is not None and name not in _NOT_REPLAYED:
            lines.append(f"{name} = {json.dumps(_absolute(name, value), ensure_ascii=False)}")
    atomic_write(folder / "config.toml", ("\n".join(lines) + "\n").encode())


def words_of(config: Mapping[str, Any]) -> list[str]:
    """A config as the words of a command line."""
    words = str(config["verb"]).split()
    for name, value in config.items():
        if name == "verb" or value is False:
            continue
        flag = "--" + name.replace("_", "-")
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [flag, *map(str, values)]
    return words


def print_json(value: Any) -> None:
    """JSON on stdout."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    sys.stdout.buffer.write(orjson.dumps(value, option=options))
    sys.stdout.flush()


def _absolute(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, list):
        return [_absolute(name, item) for item in value]
    from influcoder.store.output_folder import local

    if name not in INPUTS or not local(value):
        return value
    path = os.path.expanduser(value)
    return os.path.join(os.getcwd() if os.path.exists(path) else glob.escape(os.getcwd()), path)

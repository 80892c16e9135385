"""`influcoder run`: a verb again, from what it wrote down."""

from pathlib import Path

from influcoder.cli.flags import NO_TRUST, Flag, Trust
from influcoder.cli.output import words_of
from influcoder.errors import ConfigError


def run(config: Path, *, resume: Flag = False, overwrite: Flag = False, trust: Trust = NO_TRUST) -> None:
    """Run a verb again from the config.toml that it wrote to its output folder.

    Args:
        config: its path; the same folder is written again, so give one of the flags or move the folder away
        resume: continue with what is in the output folder; for the verbs that have this flag
        overwrite: empty the output folder first
    """
    import tomllib

    from influcoder.cli import RESUMES_BY_ITSELF, app

    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
        words = words_of(settings)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{config}: not the config of a run ({error!r}); expected the config.toml of an output folder."
        ) from error
    resumes = resume and words[0] != RESUMES_BY_ITSELF
    app(words + ["--resume"] * resumes + ["--overwrite"] * overwrite)

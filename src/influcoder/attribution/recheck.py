"""What real gradients add to the encoder's estimates, and which of it goes together."""

from dataclasses import dataclass

from influcoder.errors import ConfigError
from influcoder.teachers.settings import TeacherSettings, refuse_no_token_shares


@dataclass(frozen=True, slots=True)
class Recheck:
    """What is re-checked: `verify`, `certify` and `tokens` of `influcoder.attribution.search.search`."""

    verify: int = 0
    certify: int = 0
    tokens: bool = False

    def refuse_impossible(self, k: int, teacher: TeacherSettings | None) -> None:
        """See that these go together, with `k` hits, and with the settings of the teacher that re-checks.

        Raises:
            ConfigError: they do not.
        """
        if (self.certify or self.tokens) and not self.verify:
            purpose = "--tokens tells the tokens of" if self.tokens else "--certify bounds what is missed by a list of"
            raise ConfigError(f"{purpose} rows that real gradients re-check: give --verify N and --decoder as well.")
        if self.verify and teacher is None:
            raise ConfigError("verify needs the decoder whose gradients re-check the shortlist: give --decoder.")
        if self.verify and self.verify < k:
            raise ConfigError(f"verify is {self.verify}, expected at least k = {k} candidates.")
        if self.certify < 0:
            raise ConfigError(f"certify is {self.certify}, expected at least 1 row, or 0 for none.")
        if self.tokens and teacher is not None:
            refuse_no_token_shares(teacher)

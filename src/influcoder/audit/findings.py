"""What was checked, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from influcoder.errors import InflucoderError
from influcoder.provenance import differences

Status = Literal["verified", "broken", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        part: the folder, by its kind and place.
        what: what was checked, as it is where all is well.
        detail: what was found instead.
    """

    part: str
    what: str
    status: Status
    detail: str = ""


class Findings(list[Finding]):
    """What was checked of a chain, in order."""

    def check(self, part: str, what: str, look: Callable[[], object]) -> Any:
        """Let `look` read something, and note whether it refuses; returns what it read, or None."""
        try:
            found = look()
        except InflucoderError as error:
            self.append(Finding(part, what, "broken", str(error)))
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self.append(Finding(part, what, "broken", f"cannot be read: {error!r}"))
            return None
        self.append(Finding(part, what, "verified"))
        return found

    def compare(self, part: str, what: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
        """Note whether two records say the same; every difference is named."""
        lines = differences(there, now)
        self.append(Finding(part, what, "broken" if lines else "verified", "; ".join(lines)))
        return not lines

    def missing(self, part: str, what: str, detail: str) -> None:
        """Note what is not there."""
        self.append(Finding(part, what, "missing", detail))

    @property
    def verdict(self) -> Literal["verified", "broken", "incomplete"]:
        statuses = {one.status for one in self}
        return "broken" if "broken" in statuses else "incomplete" if "missing" in statuses else "verified"

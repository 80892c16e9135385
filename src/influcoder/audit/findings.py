"""What was checked, and the results."""

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
        what: the statement that was checked.
        detail: why it does not hold.
    """

    part: str
    what: str
    status: Status
    detail: str = ""


class Findings(list[Finding]):
    """What was checked of a chain, in order."""

    def check(self, part: str, what: str, read: Callable[[], object]) -> Any:
        """Call `read`, and record whether it fails; returns its result, or None."""
        try:
            result = read()
        except InflucoderError as error:
            self.append(Finding(part, what, "broken", str(error)))
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self.append(Finding(part, what, "broken", f"cannot be read: {error!r}"))
            return None
        self.append(Finding(part, what, "verified"))
        return result

    def compare(self, part: str, what: str, recorded: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        """Record whether two records agree; every difference is named."""
        lines = differences(recorded, actual)
        self.append(Finding(part, what, "broken" if lines else "verified", "; ".join(lines)))

    @property
    def verdict(self) -> Literal["verified", "broken", "incomplete"]:
        statuses = {finding.status for finding in self}
        return "broken" if "broken" in statuses else "incomplete" if "missing" in statuses else "verified"

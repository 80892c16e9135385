"""What the page shows of the pool without a question; computed once, in a thread of its own."""

import logging
import threading
import time
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.null_band import SCORED, reference_directions
from influcoder.attribution.plane import places
from influcoder.attribution.pool_columns import Groups, PoolColumns
from influcoder.attribution.regions import Regions, find_regions, sample_vectors, some_texts
from influcoder.attribution.words import Rarity
from influcoder.errors import InflucoderError, first_line
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.recent import Recent
from influcoder.serve.explorer import Explorer

LOGGER = logging.getLogger("influcoder.serve")
READ_FOR_WORDS, READ_TOGETHER = 5_000, 500
"""rows whose words are counted, and how many of them are neighbours"""
KEPT_MASKS = 32
"""filters whose rows are kept, a byte a row each"""
LENGTHS = (100, 300, 1_000, 3_000, 10_000)
"""characters that divide lengths into groups"""


class PoolPicture:
    """Regions, map, word counts and the band of unrelated questions; None until they are computed.

    Attributes:
        columns: of the rows.
        sample: vectors of some rows, for the band.
        slices: the rows in groups, by the name of the grouping.
        masks: which rows pass a filter, by filter and question; used by the worker.
        doing: what is being computed; "" once all is done.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.columns = PoolColumns(index)
        self.references: Floats | None = None
        self.sample: Floats | None = None
        self.rarity: Rarity | None = None
        self.regions: Regions | None = None
        self.places: Floats | None = None
        self.slices: dict[str, Groups] | None = None
        self.masks: Recent[NDArray[np.bool_]] = Recent(KEPT_MASKS)
        self.doing = "waiting for the encoder"
        self.failed = ""
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None

    def begin(self, explorer: Explorer) -> None:
        """Start to compute it in the background, once."""
        if self._thread is None:
            explorer.worker.add_job(lambda: self._ask_unrelated(explorer))
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._find, name="influcoder-pool", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for it, some seconds at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    @property
    def seconds(self) -> int:
        """How long it has taken so far."""
        return round(time.monotonic() - self._began)

    def _slices(self) -> dict[str, Groups]:
        """Rows by region, who speaks, length, and by columns of their metadata that have few values."""
        slices: dict[str, Groups] = {}
        if self.regions is not None:
            slices["region"] = Groups(self.regions.of_row, self.regions.names)
        for name in self.columns.metadata_names:
            if name not in slices:
                groups = self.columns.groups(name)
                if 1 < len(groups.names) <= max(50, len(self.index) // 20):
                    slices[name] = groups
        roles = self.columns.roles
        if len(roles.names) > 1:
            slices["role"] = roles
        lengths = np.digitize(self.columns.lengths, LENGTHS).astype(np.int32)
        slices["length"] = Groups(lengths, tuple(_between(LENGTHS)))
        return slices

    def _ask_unrelated(self, explorer: Explorer) -> None:
        """In the worker, which owns the decoder; waiting requests are served in between."""
        try:
            self.references = reference_directions(self.index, explorer.teacher, pause=explorer.worker.give_way)
        except InflucoderError as error:
            self.failed = first_line(error)

    def _find(self) -> None:
        rng = np.random.default_rng(0)
        try:
            self.doing = "reading words"
            rows = np.arange(len(self.index))
            self.rarity = Rarity.of(some_texts(self.index, rows, READ_FOR_WORDS, READ_TOGETHER, rng))
            self.sample = sample_vectors(self.index, SCORED, rng)
            self.doing = "finding regions"
            self.regions = find_regions(self.index)
            self.doing = "drawing the map"
            self.places = places(self.index)
            self.doing = "reading columns"
            self.slices = self._slices()
            _ = self.columns.twins
        except InflucoderError as error:
            self.failed = first_line(error)
        except Exception as error:  # the page says so, and goes on without
            LOGGER.exception("the pool's picture")
            self.failed = first_line(error)
        self.doing = ""


def length_filters() -> list[list[str]]:
    """The filters of each group of lengths."""
    ends = [None, *LENGTHS, None]
    return [
        [f"length>={low}"] * (low is not None) + [f"length<{high}"] * (high is not None) for low, high in pairwise(ends)
    ]


def _between(ends: tuple[int, ...]) -> list[str]:
    inner = [f"{low:,} to {high:,} characters" for low, high in pairwise(ends)]
    return [f"under {ends[0]:,} characters", *inner, f"{ends[-1]:,} characters and more"]

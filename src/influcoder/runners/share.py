"""Which shards of a job a process makes, if several processes share it."""

import os
from dataclasses import dataclass

from influcoder.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Share:
    """This process's part of the shards: every `count`-th, from `index` on.

    >>> [number for number in range(7) if Share(1, 3).has(number)]
    [1, 4]
    """

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        """Whether this process makes a shard."""
        return number % self.count == self.index

    def named(self, name: str) -> str:
        """A file's name, distinct from those of the other shares: metrics.json, metrics-2-of-8.json."""
        stem, dot, suffix = name.rpartition(".")
        return name if self.count == 1 else f"{stem}-{self.index + 1}-of-{self.count}{dot}{suffix}"

    def device(self) -> str | None:
        """The accelerator that `accelerate launch` gives this process; None for the default."""
        local_rank = os.environ.get("LOCAL_RANK")
        if self.count == 1 or not local_rank:
            return None
        import torch

        return f"cuda:{local_rank}" if torch.cuda.is_available() else None

    @classmethod
    def read(cls, text: str | None) -> "Share":
        """The share of the text I/N (I from 1 to N); without one, that of `torchrun` or `accelerate launch`.

        Raises:
            ConfigError: the text has another form, or there is no such share.
        """
        if text is None:
            return cls._of_environment()
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ConfigError(f"--shard is {text!r}, expected I/N with I from 1 to N, as in 2/8.")
        return cls(int(number) - 1, int(count))

    @classmethod
    def _of_environment(cls) -> "Share":
        rank, count = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
        if not (rank or count):
            return cls()
        if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
            raise ConfigError(
                f"the environment has RANK={rank} and WORLD_SIZE={count}, expected a place and a number of processes "
                "as torchrun sets them, 0 and 2 for the first of two. Unset both, or give --shard I/N."
            )
        return cls(int(rank), int(count))

"""Jobs of PyTorch beside each other in this process, each with its share of the processor's threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def in_threads(count: int) -> Iterator[Callable[..., Any]]:
    """A `map` that runs in so many threads, among which PyTorch's are divided; in this one when it is one."""
    if count == 1:
        yield map
        return
    usual = torch.get_num_threads()
    share = max(1, usual // count)
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(usual)

"""Calls in joblib's worker processes, which end with the process that started them, however that ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from functools import cache
from typing import Any, Literal, TypeVar

from problems.errors import InputError

Result = TypeVar("Result")
Order = Literal["generator", "generator_unordered"]
POLL = 1.0
"""Seconds between two looks of a worker whether its parent still runs."""


def side_by_side(
    function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], workers: int, order: Order = "generator"
) -> Generator[Result]:
    """``function(*call)`` of each call, taken from ``calls`` as workers become free; results in the calls' order or
    ("generator_unordered") as they end. One worker is this process.

    Raises InputError where a worker process dies. Closing the generator stops what is under way.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    options: Any = {"n_jobs": workers, "batch_size": 1, "return_as": order}
    parent = os.getpid()
    ended: Any = Parallel(**options)(delayed(_watched)(parent, function, call) for call in calls)
    try:
        yield from ended
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died (killed, or out of memory); what is done is kept: run again, perhaps with fewer"
            f" --workers ({type(error).__name__})"
        ) from error
    finally:
        ended.close()


def _watched(parent: int, function: Callable[..., Result], call: tuple[Any, ...]) -> Result:
    _end_with(parent)
    return function(*call)


@cache
def _end_with(parent: int) -> None:
    """In a worker: end when the parent has gone; left alone, joblib's workers would wait for minutes."""
    if os.getpid() == parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, name="watch the parent", daemon=True).start()

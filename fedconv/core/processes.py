"""Calls in joblib's worker processes, which end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, TypeVar

from fedconv.problems.errors import InputError

Result = TypeVar("Result")
Order = Literal["generator", "generator_unordered"]
_NEEDLESS = (
    "A worker stopped while some jobs were given",  # its memory had grown; another takes over, and nothing is lost
    r"\d+ tasks (have been successfully executed|which were still being processed)",  # when calls are given up
)
"""What joblib warns of and users need not be told."""

POLL = 1.0
"""Seconds between two looks of a worker whether its parent still runs."""


def side_by_side(
    function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], workers: int, order: Order = "generator"
) -> Generator[Result]:
    """``function(*call)`` of each call, taken from ``calls`` as workers become free; results in the calls' order or
    ("generator_unordered") as they end. One worker is this process.

    Raises InputError where a worker process dies. Closing the generator stops what is under way.
    """
    yield from _collected(_submitted(function, calls, workers, order))


@contextmanager
def started(function: Callable[..., object], workers: int) -> Iterator[None]:
    """While the caller prepares, ``workers`` processes start and import ``function``'s module, which takes seconds;
    :func:`side_by_side` finds them ready. One worker is this process."""
    if workers == 1:
        yield
        return
    ready = _submitted(_imported, [(function,)] * workers, workers, "generator")
    try:
        yield
        for _ in _collected(ready):
            pass
    finally:
        ready.close()


def let_go() -> None:
    """End the worker processes, which joblib would keep, with hundreds of megabytes each, for minutes."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


def _submitted(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], workers: int, order: Order
) -> Generator[Any]:
    """joblib's generator of results: the first calls are under way already."""
    from joblib import Parallel, delayed

    options: Any = {"n_jobs": workers, "batch_size": 1, "return_as": order}
    parent = os.getpid()
    for sentence in _NEEDLESS:
        warnings.filterwarnings("ignore", sentence, UserWarning)
    with without_interrupts():
        ended: Any = Parallel(**options)(delayed(_watched)(parent, function, call) for call in calls)
    return ended


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that start here never hear Ctrl-C, which a terminal sends to all of them and which a process that is
    still importing answers with a traceback: this process hears it, afterwards, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _start_trackers()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_trackers() -> None:
    """The resource trackers of the standard library and of joblib run before the mask is set: the first process that
    needs one starts it, and then takes Ctrl-C off the mask that the workers are to inherit."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as of_joblib

    resource_tracker.ensure_running()
    of_joblib.ensure_running()


def _collected(ended: Generator[Result]) -> Generator[Result]:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        yield from ended
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died (killed, or out of memory); what is done is kept: run again, perhaps with fewer"
            f" --workers ({type(error).__name__})"
        ) from error
    finally:
        ended.close()


def _imported(function: Callable[..., object]) -> None:
    """Nothing: to be called, the function had to be imported."""


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

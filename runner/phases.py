"""How long the phases of a run took and how much memory they needed."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None


class Phases:
    """Seconds and peak memory by name of the phase; what an inner phase takes is not the outer one's.

    Attributes:
        found: for each phase ``seconds``, ``peak_memory`` (bytes of this process in the host's memory, its
            peak since the process began) and ``peak_gpu_memory`` (bytes of tensors on the GPU, None without).
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._going_on: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside the block is part of the phase; a phase may have several such parts."""
        self._book()
        self._going_on.append(name)
        try:
            yield
        finally:
            self._book()
            self._going_on.pop()

    def time_test(self, trainer: Any) -> None:
        """Makes each ``trainer.test`` a part of the phase ``test``, also those that its training calls.

        The trainer becomes one of a subclass made here: any trainer of Dassl's interface can be timed like
        that, with the original Dassl too, and needs to know nothing of it.
        """
        kind, phases = type(trainer), self

        class Timed(kind):
            def test(self, *args: Any, **kwargs: Any) -> Any:
                with phases.phase("test"):
                    return super().test(*args, **kwargs)

        trainer.__class__ = update_wrapper(Timed, kind, updated=())  # by the same name

    def _book(self) -> None:
        """Puts what happened since the last call to the account of the phase that was going on."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        if on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._going_on:
            empty = {"seconds": 0.0, "peak_memory": None, "peak_gpu_memory": None}
            phase = self.found.setdefault(self._going_on[-1], empty)
            phase["seconds"] += now - self._since
            phase["peak_memory"] = peak_memory()
            if on_gpu:
                phase["peak_gpu_memory"] = max(
                    phase["peak_gpu_memory"] or 0, torch.cuda.max_memory_allocated()
                )
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._since = now


def peak_memory() -> int | None:
    """Most bytes of the host's memory that this process has held; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB

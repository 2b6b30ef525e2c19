"""SIGTERM and SIGHUP, by which Slurm, kill and a closed terminal stop a run: the present epoch ends first."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# Windows has no SIGHUP.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """What a signal has asked for.

    Attributes:
        reason: name of the signal; "" as long as none has come.
    """

    reason = ""


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Takes down the first stop signal inside the block; the second raises KeyboardInterrupt at once.

    An ignored signal stays ignored (``nohup``). Outside the main thread, where Python allows no handlers,
    nothing changes. As soon as the block is to end by a signal, the handler that was set before is called
    too: it may ignore those that follow.
    """
    request, owner = StopRequest(), os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process just forked, which has no handlers of its own yet
            return
        name = signal.Signals(number).name
        if request.reason:
            hand_back()
            raise KeyboardInterrupt(f"{name}: stopped at once")
        request.reason = name
        with contextlib.suppress(RuntimeError, OSError):  # a write to stderr may have been going on
            print(f"{name}: stops after this epoch; a second signal stops at once", file=sys.stderr)

    def hand_back() -> None:
        former = before.get(signal.Signals[request.reason]) if request.reason else None
        if callable(former):
            with contextlib.suppress(KeyboardInterrupt):
                former(signal.Signals[request.reason], None)
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            # None: a handler that was not set by Python, and could not be put back.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handle)
    try:
        yield request
    finally:
        hand_back()


def heed_only_parent(worker: int) -> None:
    """Lets a loader worker be stopped by its parent alone (``worker_init_fn``).

    Slurm and a closed terminal signal all processes of a run: a worker that ended by that would fail the
    epoch that the run is about to end. SIGTERM is also how the parent ends a worker: it is obeyed if it comes
    from there, or if the parent is gone.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS: does not tell who sent a signal
        return
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent and os.getppid() == parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()

"""How every command starts and ends: usable streams, one line for an error, an exit status, no traceback.

Also what several commands need to read their arguments.

Imports nothing that takes time, so that Ctrl-C is answered while torch is still being imported.
"""

import argparse
import contextlib
import errno
import functools
import importlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from fileio.errors import FULL
from reporting.text import visible

USAGE_ERROR = 2
INTERRUPTED = 130
NO_READER = 141  # as a shell has it for a program that SIGPIPE ended

# What is mostly a setting, a missing file or a full disk, and not a fault of the program.
USUAL_ERRORS = (ValueError, LookupError, OSError, FloatingPointError, MemoryError, RecursionError)
STDOUT = "the standard output"
QUIET = 10.0  # seconds after a signal in which others are ignored
LONGEST = 1000  # characters of an error's message
# torch's errors of memory on a GPU, on the CPU and in loader workers are RuntimeErrors.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|Unable to allocate|ALLOC_FAILED"
    r"|failed to map segment|killed by signal: (Killed|Bus error)"
)
# Windows has no SIGHUP.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Output:
    """stdout whose errors name it: those of a write to a full disk or a closed pipe name no file."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with names_file(STDOUT, (*FULL, errno.EPIPE, errno.EIO)):
            return self.stream.write(text)

    def flush(self) -> None:
        with names_file(STDOUT, (*FULL, errno.EPIPE, errno.EIO)):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def run(module: str) -> None:
    """Imports a command's module and exits with the status of its ``main``."""
    if sys.stdout is not None:
        sys.stdout = Output(sys.stdout)
    ignore_signals = interrupt_once()
    status = one_line_errors()(lambda argv: importlib.import_module(module).main(argv))()
    ignore_signals()  # the end of Python and torch would answer one with a traceback
    sys.exit(status)


def one_line_errors(again: str = "", memory: str = "") -> Callable[[Callable], Callable]:
    """Decorates a command's ``main(argv)``, which returns the exit status.

    What ends it otherwise becomes a line on stderr and a status: 130 for Ctrl-C, 2 for a user's mistake, a
    full disk or too little memory. A fault of the program keeps its traceback; ``HEBA_TRACEBACK`` in the
    environment shows those of the others. Where whoever reads the output (``| head``) has had enough, the end
    is silent.

    Args:
        again: what the same command does after an interrupt; "" for a command that only shows something.
        memory: what to lower where memory runs out.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def command(argv: Sequence[str] | None = None) -> int:
            make_streams_usable()
            try:
                status = main(argv)
                sys.stdout.flush()
                return status
            except KeyboardInterrupt as interrupt:
                say("; ".join(filter(None, [str(interrupt) or "interrupted", again])))
                return INTERRUPTED
            except Exception as error:
                if isinstance(error, OSError) and error.filename == STDOUT:
                    drop_output()
                    if error.errno == errno.EPIPE:
                        return NO_READER if again else 0
                line = describe(error, memory)
                if os.environ.get("HEBA_TRACEBACK") or not line:
                    raise
                say(f"error: {visible(line)} (HEBA_TRACEBACK=1 shows where)")
                return USAGE_ERROR

        return command

    return decorate


def make_streams_usable() -> None:
    """Closed streams (``>&-``) swallow what is written; what an encoding lacks is escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if hasattr(getattr(sys, name), "reconfigure"):  # not in notebooks
            getattr(sys, name).reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Writes a line to stderr, if that can be written."""
    with contextlib.suppress(OSError, AttributeError):  # a full disk; closed, and not yet made usable
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def drop_output() -> None:
    """Sends what is still in stdout's buffer nowhere: Python would fail to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe(error: Exception, memory: str = "") -> str:
    """What an error says, in one line with the remedy; "" where it is a fault of the program."""
    if lacks_memory(error):
        if isinstance(error, ImportError):  # before a command has done anything
            memory = ""
        remedy = memory or "close other programs, raise the limit (ulimit -v), or use a machine that has more"
        return f"out of memory ({first_sentence(error)}): {remedy}"
    if isinstance(error, ModuleNotFoundError) and error.name and not is_ours(error.name):
        package = error.name.partition(".")[0]
        return (
            f'the Python package "{package}" is not installed: bash scripts/setup.sh installs what is needed'
        )
    if not isinstance(error, USUAL_ERRORS):
        return ""
    text = one_line(error)
    if isinstance(error, OSError) and error.errno in FULL:
        text += ": make room, or write elsewhere"
    if isinstance(error, RecursionError):
        text += ": is a file nested thousands of levels deep?"
    if text == "Loss is infinite or NaN!":  # Dassl's words
        text += " Lower OPTIM.LR, or compute in PREC bf16 or fp32"
    return text


def is_ours(module: str) -> bool:
    """Whether a module's package lies beside this file: that it is missing is a fault of the program."""
    path = Path(__file__).with_name(module.partition(".")[0])
    return path.is_dir() or path.with_suffix(".py").is_file()


def lacks_memory(error: Exception) -> bool:
    """Whether an error of Python, numpy, the system, its loader or torch says that memory has run out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return isinstance(error, MemoryError) or error.errno == errno.ENOMEM
    tells = isinstance(error, (RuntimeError, ImportError, OSError))
    return tells and OUT_OF_MEMORY.search(str(error)) is not None


def first_sentence(error: Exception) -> str:
    """The beginning of what is said: torch's messages on memory fill a screen."""
    found = OUT_OF_MEMORY.search(text := one_line(error))
    start = text.rfind(": ", 0, found.start()) + 2 if found and ": " in text[: found.start()] else 0
    return re.split(r"(?<=[a-z])\. ", text[start:])[0].rstrip(". ") or type(error).__name__


def one_line(error: BaseException) -> str:
    """The message of an error without control characters; of a loader worker's traceback the last line.

    Of a very long one, such as a value that somebody gave by mistake, beginning and end are kept.
    """
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if "Original Traceback" in message:
        message = message.strip().splitlines()[-1].split(": ", 1)[-1]
    return shortened(visible(" ".join(message.split())))


def shortened(text: str) -> str:
    """A text of at most ``LONGEST`` characters, with … in its middle where it was longer."""
    half = (LONGEST - 1) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


def fail(message: str) -> int:
    """Says what is wrong; returns the exit status."""
    say(f"error: {shortened(visible(message))}")
    return USAGE_ERROR


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage of all flags above it."""

    def error(self, message: str) -> NoReturn:
        sys.exit(fail(f"{message} (--help explains the flags)"))


def natural(text: str, least: int = 0) -> int:
    """The type of an argument that counts something.

    Raises:
        ArgumentTypeError: it is no whole number from ``least`` up.
    """
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f'"{text}" is no such number; set it to {least} or more')
    return int(text)


def positive(text: str) -> int:
    """The type of an argument that counts something of which there must be one."""
    return natural(text, 1)


@contextlib.contextmanager
def names_file(path: str, errors: Collection[int] = FULL) -> Iterator[None]:
    """Gives an error of a write what was written to; the system names it only where a file is opened.

    Args:
        path: what is written to in the block.
        errors: errno values that only such a write can have.
    """
    try:
        yield
    except OSError as error:
        if error.errno in errors and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def interrupting_signals(also: Sequence[int] = ()) -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt inside the block, each time.

    One that is ignored stays so (``nohup``). Outside the main thread, where Python allows no handlers,
    nothing changes. Where one has come, the handler that was set before is called at the end: it may ignore
    those that follow.

    Args:
        also: signals that do the same even where they are ignored.
    """
    served: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        served.append(number)
        raise stopped(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, interrupt) for number in [*also, *heeded(STOP_SIGNALS)]}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if served and callable(before[served[0]]):
            with contextlib.suppress(KeyboardInterrupt):
                before[served[0]](served[0], None)


def interrupt_once() -> Callable[[], None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; those that follow within ``QUIET`` are ignored.

    A second one would cut what the first one's end still has to do, and Python would show that as tracebacks.
    Where modules are being imported, the process ends at once: torch's import swallows exceptions.

    Returns:
        A function that ignores them from now on.
    """
    numbers = heeded([signal.SIGINT, *STOP_SIGNALS])
    served: list[float] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if served and time.monotonic() - served[-1] < QUIET:
            return
        served.append(time.monotonic())
        if is_importing(frame):
            say(str(stopped(number)) or "interrupted")
            os._exit(INTERRUPTED)
        # Over other handlers; not SIG_IGN, for Python reports signals that came and lost their handler since.
        answer(interrupt)
        raise stopped(number)

    def answer(handler: Any) -> None:
        for number in numbers:
            signal.signal(number, handler)

    answer(interrupt)
    return lambda: answer(signal.SIG_IGN)


def is_importing(frame: FrameType | None) -> bool:
    """Whether an import is going on in a frame or in one that called it."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def heeded(numbers: Sequence[int]) -> list[int]:
    """The signals that are not ignored (``nohup``) and whose handlers Python knows and can put back."""
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def stopped(number: int) -> KeyboardInterrupt:
    """What a signal raises."""
    name = signal.Signals(number).name
    return KeyboardInterrupt("" if name == "SIGINT" else f"{name}: stopped")

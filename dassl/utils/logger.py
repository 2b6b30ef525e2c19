"""``log.txt``: a copy of everything that goes to stdout, whether by ``print`` or by ``logging``."""

import logging
import os
import sys
import time
from typing import Any, TextIO


class _Tee:
    """Writes to a console and to a file; the file is flushed at each newline: a killed run loses no line."""

    def __init__(self, console: TextIO, path: str) -> None:
        self.console = console
        self.file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        self.file.write(text)
        return self.console.write(text)

    def flush(self) -> None:
        self.file.flush()
        self.console.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.console, name)


class _StdoutHandler(logging.Handler):
    """Writes bare messages to whatever ``sys.stdout`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


def setup_logger(output: str | None = None) -> None:
    """Shows log messages from INFO up on stdout and keeps all of stdout in a file. May be called again.

    Args:
        output: a folder, which gets ``log.txt``, or the path of a ``.txt`` or ``.log`` file. If the file
            exists the date and time are appended to its name. None: no file.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not any(isinstance(handler, _StdoutHandler) for handler in root.handlers):
        root.addHandler(_StdoutHandler())
    if output is None:
        return
    path = str(output)
    if not path.endswith((".txt", ".log")):
        path = os.path.join(path, "log.txt")
    if os.path.exists(path):
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    console = sys.stdout
    if isinstance(console, _Tee):
        console.file.close()
        console = console.console
    sys.stdout = _Tee(console, path)

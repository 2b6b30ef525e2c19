"""``log.txt``: a copy of everything that goes to stdout, whether by ``print`` or by ``logging``."""

import contextlib
import logging
import os
import sys
import time
from typing import Any, TextIO


class _Tee:
    """Writes to a console and to a file; the file is flushed at each newline, so a killed run loses no line.

    Where one cannot be written (a full disk, a pipe without reader) the other goes on alone, after a warning.
    """

    def __init__(self, console: TextIO, path: str) -> None:
        self.console = console
        self.path = path
        self.file: TextIO | None = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        text = text.encode(errors="backslashreplace").decode()  # names of files may hold lone surrogates
        try:
            if self.file is not None:
                self.file.write(text)
        except OSError as error:
            self._stop(error)
        try:
            self.console.write(text)
        except OSError as error:
            self._drop_console(error)
        return len(text)

    def flush(self) -> None:
        try:
            if self.file is not None:
                self.file.flush()
        except OSError as error:
            self._stop(error)
        try:
            self.console.flush()
        except OSError as error:
            self._drop_console(error)

    def close(self) -> None:
        """Ends the file; the console stays open."""
        self.close_file()
        self.flush()

    def close_file(self) -> None:
        file, self.file = self.file, None
        with contextlib.suppress(OSError):  # what is still in its buffer does not fit either
            if file is not None:
                file.close()

    def _stop(self, error: OSError) -> None:
        self.close_file()
        print(f'warning: "{self.path}" cannot be written: disk full? ({error})', file=sys.stderr)

    def _drop_console(self, error: OSError) -> None:
        """Sends what is meant for the console nowhere, also what is still in its buffer."""
        null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        with contextlib.suppress(OSError):  # a console without a descriptor
            os.dup2(null.fileno(), self.console.fileno())
        self.console = null
        print(f'warning: stdout cannot be written ({error.strerror}); see "{self.path}"', file=sys.stderr)

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
        console.close_file()
        console = console.console
    sys.stdout = _Tee(console, path)

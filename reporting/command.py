"""What both commands print, and how they end."""

import os
import sys
from collections.abc import Callable
from typing import TextIO

from reporting.text import visible, visible_lines


def print_lines(text: object, file: TextIO | None = None) -> None:
    """Prints lines; control characters in them are written out."""
    print(visible_lines(str(text)), file=file)


def fail(message: str) -> int:
    """Says what is wrong in one line; returns the exit status."""
    print(f"error: {visible(message)}", file=sys.stderr)
    return 2


def run(main: Callable[[], int]) -> None:
    """Runs a command and exits with its status; whoever reads its output (``| head``) may stop reading."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more is written at exit
        status = 0
    sys.exit(status)

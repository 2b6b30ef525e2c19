"""How both commands end."""

import os
import sys
from collections.abc import Callable


def fail(message: str) -> int:
    """Says what is wrong; returns the exit status."""
    print(f"error: {message}", file=sys.stderr)
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

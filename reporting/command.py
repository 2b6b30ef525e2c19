"""What both commands print, and how they end."""

import sys
from typing import TextIO

from reporting.text import visible, visible_lines


def print_lines(text: object, file: TextIO | None = None) -> None:
    """Prints lines; control characters in them are written out."""
    print(visible_lines(str(text)), file=file)


def fail(message: str) -> int:
    """Says what is wrong in one line; returns the exit status."""
    print(f"error: {visible(message)}", file=sys.stderr)
    return 2

"""What both commands print."""

from typing import TextIO

from reporting.text import visible_lines


def print_lines(text: object, file: TextIO | None = None) -> None:
    """Prints lines; control characters in them are written out."""
    print(visible_lines(str(text)), file=file)

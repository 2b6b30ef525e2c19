"""What both commands share: what they print, and a check of their folders."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from reporting.text import visible, visible_lines


def print_lines(text: object, file: TextIO | None = None) -> None:
    """Prints lines; control characters in them are written out."""
    print(visible_lines(str(text)), file=file)


def not_a_folder(directories: Sequence[Path]) -> str:
    """What is wrong with the first of the given folders that is none; "" if all are."""
    for directory in directories:
        if not directory.is_dir():
            why = "not a directory" if directory.exists() else "no such directory"
            return f"{why}: {directory}"
    return ""


def print_strays(strays: dict[Path, str], repeated: Sequence[str], missing_in: str) -> None:
    """Prints on stderr which folders are not shown, and which runs were found more than once.

    Args:
        strays: folders with the reason, of ``find_places``.
        repeated: lines of ``find_places``.
        missing_in: table or picture.
    """
    for folder, why in strays.items():
        print_lines(f"in no {missing_in}: {visible(folder)} {why}", file=sys.stderr)
    for line in repeated:
        print_lines(f"note: {line}", file=sys.stderr)

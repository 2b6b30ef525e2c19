"""Moving what was unpacked to where the loaders look for it; every step can be cut and done again."""

import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fileio import InUse, exclusive

logger = logging.getLogger(__name__)
WORKSPACE = ".prepare"
LOCK = ".prepare.lock"  # beside the workspace, which is deleted while the lock is held
DEPTH = 5  # folders an archive may wrap around what is wanted


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Folder for downloads and unpacking inside ``folder``, so that moving from there is renaming.

    Raises:
        OSError: it cannot be written, or another process works there.
    """
    work = folder / WORKSPACE
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(folder / LOCK))
        except InUse as holder:
            raise OSError(f'another process prepares "{folder}" ({holder}); wait for it') from None
        work.mkdir(exist_ok=True)
        yield work


def locate(unpacked: Path, name: str) -> Path | None:
    """The file or folder of that name nearest to the top of an unpacked archive."""
    level = [unpacked]
    for _ in range(DEPTH):
        for folder in level:
            found = folder / name
            if found.exists():
                while found.is_dir() and [entry.name for entry in os.scandir(found)] == [found.name]:
                    found = found / found.name  # photos/photos/…
                return found
        level = sorted(Path(entry) for folder in level for entry in os.scandir(folder) if entry.is_dir())
    return None


def place(source: Path, target: Path) -> None:
    """Moves a file or folder to ``target`` by renaming; in a folder that is there, fills in what is missing.

    A file that is there already stays as it is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(target):
        os.rename(source, target)
    elif source.is_dir() and target.is_dir():
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
            place(Path(entry.path), target / entry.name)


def set_aside(path: Path) -> None:
    """Renames a file that is not what it should be, so that it is not lost: ``.old``, ``.old-2``, …"""
    names = (f"{path.name}.old{f'-{number}' if number > 1 else ''}" for number in itertools.count(1))
    aside = next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    logger.warning('"%s" is kept as "%s" and replaced', path, aside.name)
    os.replace(path, aside)


def clean(work: Path) -> None:
    """Deletes a workspace."""
    shutil.rmtree(work, ignore_errors=True)

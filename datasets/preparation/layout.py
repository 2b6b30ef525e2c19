"""Moving what was unpacked to where the loaders look for it; every step can be cut and done again."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)
WORKSPACE = ".prepare"
DEPTH = 5  # folders an archive may wrap around what is wanted


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Folder for downloads and unpacking inside ``folder``, so that moving from there is renaming.

    Raises:
        OSError: it cannot be written, or another process works there.
    """
    work = folder / WORKSPACE
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(f'another process prepares "{folder}"; wait for it') from error
            except OSError as error:  # some network file systems
                logger.debug("%s cannot be locked: %s", work, error)
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
    """Renames a file that is not what it should be, so that it is not lost."""
    aside = path.with_name(path.name + ".old")
    logger.warning('"%s" is kept as "%s" and replaced', path, aside.name)
    os.replace(path, aside)


def clean(work: Path) -> None:
    """Deletes a workspace."""
    shutil.rmtree(work, ignore_errors=True)

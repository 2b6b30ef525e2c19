"""Files that appear whole or not at all."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fileio.errors import FULL

TEMPORARY = re.compile(r"\.(?P<target>.+)\.\d+-[0-9a-f]{12}\.tmp")  # name of an unfinished file


def temporary_name(target: Path) -> Path:
    """A name beside ``target`` that no other process uses: ``.<name>.<process id>-<random>.tmp``."""
    return target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp")


@contextlib.contextmanager
def atomic_write(path: str | Path, *, replace: bool = True, sync: bool = True) -> Iterator[BinaryIO]:
    """Opens a binary file that appears under ``path`` only when it is whole and on the disk.

    It gets the permissions that the user's umask gives. Where ``path`` is a symbolic link, the link stays and
    the file that it names is replaced, as ``open(path, "w")`` would do.

    Args:
        path: the file.
        replace: write over a file that exists; otherwise that one stays, so that of several processes that
            start together all use the file of the first.
        sync: wait until the disk has the content; not needed for what is quickly made again.

    Raises:
        OSError: the file cannot be written, or ``path`` is something else than a file; on whatever error,
            what was under ``path`` is still there.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # renaming over a device or a pipe would destroy it
        raise OSError(f'cannot write "{path}": it exists and is not a file; choose another path')
    temporary = temporary_name(target)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        _put(temporary, target, replace)
    except (OSError, RuntimeError) as error:
        # torch reports a write that failed by RuntimeError, as it does many other things
        reason = str(error).strip().partition("\n")[0]
        torchs = "unexpected pos" in reason or "PytorchStreamWriter failed writing" in reason
        if not torchs and not isinstance(error, OSError):
            raise
        number = getattr(error, "errno", None)
        if torchs or number in FULL:  # torch does not tell the cause
            reason = f"disk full? ({reason})"
        failure = OSError(f'cannot write "{path}": {reason}')
        failure.errno = number
        raise failure from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def _put(temporary: Path, target: Path, replace: bool) -> None:
    if not replace:
        try:
            os.link(temporary, target)  # unlike a rename, fails if there is a file already
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if target.exists():
                return
        else:
            return
    os.replace(temporary, target)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def remove_leftovers(folder: Path, written: re.Pattern[str]) -> None:
    """Deletes the unfinished files that killed processes left of files that the caller itself writes.

    The caller holds the lock that every writer of these files holds, so none of them is being written.

    Args:
        folder: where the files lie; folders below it are not looked at.
        written: matches the whole names of the files.
    """
    for entry in os.scandir(folder):
        name = TEMPORARY.fullmatch(entry.name)
        if name and written.fullmatch(name["target"]) and entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError):
                os.remove(entry.path)

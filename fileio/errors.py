"""What can go wrong while files are fetched and unpacked, told apart by what it means for the work."""

import errno
import os
from pathlib import Path


class Unavailable(OSError):
    """This source does not deliver, or not what it should; another one may."""


class Damaged(Unavailable):
    """A file is not the archive or table that it should be; another source may have a sound one."""


class NoRoom(OSError):
    """The disk or the quota is full: no other source helps, and what came so far is kept."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that nothing more can be written."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NoRoom) or (isinstance(cause, OSError) and cause.errno in FULL):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def one_line(error: BaseException) -> str:
    """The message of an error on one line, or its type where it has none."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, Unavailable):
        name = f": {os.fspath(error.filename)!r}" if isinstance(error.filename, str | Path) else ""
        return error.strerror + name
    return " ".join(str(error).split()) or type(error).__name__

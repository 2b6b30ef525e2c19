"""One process at a time: a lock that ends with the process that took it."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

OWN = b"process "  # how the text of a lock file begins

# flock, not lockf: a lock of lockf vanishes without a word when any part of the process opens and closes the
# file, and does not hold between threads. What flock lacks is that forked children (loader workers) hold it
# too, also after their parent was killed; they close their copy of the file as soon as they start. Children
# of other kinds get none: Python opens files so that they are closed on exec.
_held: set[BinaryIO] = set()


def _let_go() -> None:
    while _held:
        _held.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class InUse(OSError):
    """Another process holds the lock; the text says which, as far as it is known."""


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a lock while the block runs; the file says who holds it, and is gone afterwards.

    Args:
        path: the lock file, in a folder that exists.
        wait: wait for another process that holds it.

    Yields:
        Whether the lock is held; False where files cannot be locked (Windows, some network file systems).

    Raises:
        InUse: another process holds it, and ``wait`` is not set.
        OSError: the lock file cannot be made, or something else has its name.
    """
    file = _locked(path, wait)
    if file is None:
        _warn_once(str(path.parent))
        yield False
        return
    _held.add(file)
    try:
        with contextlib.suppress(OSError):  # a full disk
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n".encode()
            )
            file.flush()
        yield True
    finally:
        if file in _held:  # not in a forked child, whose parent goes on holding it
            _held.remove(file)
            with contextlib.suppress(OSError):
                if _is_at(file, path):
                    path.unlink()  # before the lock ends: whoever waits for it finds the name gone
            with contextlib.suppress(OSError):
                file.close()


def lock_holder(path: Path) -> str:
    """Who holds a lock of ``exclusive``; "" if nobody does, or files cannot be locked."""
    if fcntl is None:
        return ""
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)
    except OSError:
        pass
    return ""


def _locked(path: Path, wait: bool) -> BinaryIO | None:
    """The lock file, locked; None where files cannot be locked."""
    if fcntl is None:
        return None
    while True:
        file = _opened(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(file)
            if not wait:
                file.close()
                raise InUse(holder) from error
            logger.info("waiting for %s, which holds %s", holder, path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            return None
        if _is_at(file, path):
            return file
        file.close()  # its holder removed it while this process was about to lock it: a new one is needed


def _opened(path: Path) -> BinaryIO:
    """Opens a lock file, or makes it; it stays open as long as the lock is held.

    Raises:
        OSError: what has its name is a link, no file, or a file that no lock has written.
    """
    if not os.path.lexists(path) or (path.is_file() and not path.is_symlink()):
        # O_NOFOLLOW: a link may have been put there since
        file = open(path, "a+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))  # noqa: SIM115
        file.seek(0)
        if file.read(len(OWN)) in (b"", OWN):
            return file
        file.close()
    raise OSError(f'"{path}" is in the way of the lock of that name; move it away')


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _holder(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace").strip() or "another process"


@cache
def _warn_once(folder: str) -> None:
    logger.warning('files in "%s" cannot be locked: run one process at a time there', folder)

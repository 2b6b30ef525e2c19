"""Fetching one file from one address: continued after a cut, checked, and in its place only when it is whole.

What came so far lies beside the file as ``<name>.part``; ``<name>.part.from`` says of which address, and of
which version there, so that a later call continues it, too.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fileio.digest import file_digest
from fileio.errors import Damaged, NoRoom, Unavailable, is_full, one_line
from fileio.lock import exclusive
from fileio.progress import Progress, size

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)
ATTEMPTS = 10  # connections to one address, as long as each of them brings bytes
TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds without a byte
CHUNK = 1 << 18


def from_web(url: str, part: Path) -> None:
    """Brings ``part`` to completion from an HTTP server, which sends what is not there yet if it can.

    Raises:
        Unavailable: the server does not deliver.
        NoRoom: the file is larger than the free space.
    """
    import requests

    with requests.Session() as session:
        for _ in range(ATTEMPTS):
            reason = _receive(session, url, part)
            if not reason:
                return
            logger.info("%s: %s, continuing", url, reason)
    raise Unavailable(reason)


def fetch_file(
    source: str,
    target: Path,
    *,
    sha256: str = "",
    md5: str = "",
    fetch: Callable[[str, Path], None] = from_web,
) -> None:
    """Fetches a file; what an earlier call left unfinished is continued. One process at a time does that.

    Args:
        source: its address.
        target: path of the file. With a known digest, a file there that has it is left alone.
        sha256: digest that it must have, if one is known.
        md5: another one.
        fetch: brings a part file to completion from ``source``.

    Raises:
        Unavailable: the source does not deliver the file, or delivers other bytes.
        NoRoom: the disk is full; what came is kept.
        OSError: the folder cannot be written.
    """
    digests = {kind: digest for kind, digest in (("MD5", md5), ("SHA-256", sha256)) if digest}
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part_of(target) as part:
        if digests and target.is_file() and not _mismatch(target, digests):
            return  # another process was faster
        # With a digest any source may continue what another one began; without, only the same version may.
        if not digests and not _version(source, part) and _length(part):
            _discard(part)
        resumed = _length(part) > 0
        while True:
            try:
                fetch(source, part)
            except OSError as error:
                if is_full(error):
                    raise NoRoom(
                        f'no room left for "{part}" ({one_line(error)}; {size(free(part.parent))} are free); '
                        "what came is kept: make room, or choose another folder, and run the command again"
                    ) from error
                raise
            mismatch = _mismatch(part, digests)
            if not mismatch:
                break
            _discard(part)
            if not resumed:
                raise Damaged(f"{target.name} {mismatch}")
            logger.info("%s: the part that was there does not fit, fetching all of it", target.name)
            resumed = False
        os.replace(part, target)
        _note(part).unlink(missing_ok=True)


def verify(path: Path, *, sha256: str = "", md5: str = "") -> None:
    """Compares a file with the digests that are known of it.

    Raises:
        Damaged: it has another one.
    """
    if mismatch := _mismatch(path, {"MD5": md5, "SHA-256": sha256}):
        raise Damaged(f"{path.name} {mismatch}")


def reason_of(error: BaseException) -> str:
    """What a network error says, without the library's nesting of messages."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        return f"HTTP {response.status_code}"
    words = {
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no bytes for a while",
        "ChunkedEncodingError": "the connection broke",
        "SSLError": "its certificate is not accepted",
        "ProxyError": "the proxy does not let it through",
        "ConnectionError": "no connection",
    }
    return words.get(type(error).__name__, one_line(error))


def free(folder: Path) -> int:
    """Bytes that can still be written below a folder."""
    return shutil.disk_usage(folder).free


def _receive(session: "requests.Session", url: str, part: Path) -> str:
    """Opens one connection and appends to ``part`` what it sends.

    Returns:
        Why it broke after it had brought something; "" if all came.

    Raises:
        Unavailable: it brought nothing.
    """
    import requests

    bar = None
    try:
        done = _length(part)
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
            if version := _version(url, part):
                headers["If-Range"] = version  # a server that has another version by now sends all of it
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # nothing beyond what is there; digest or unpacking will judge it
                return ""
            response.raise_for_status()
            if "text/html" in response.headers.get("Content-Type", ""):
                raise Unavailable("it sends a web page instead of the file")
            if response.status_code != 206:
                done = 0  # the server sends all of it
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                raise Unavailable("it sends another range than the one asked for")
            length = response.headers.get("Content-Length", "")
            total = done + int(length) if length.isdigit() else None
            if total is not None and total - done > free(part.parent):
                raise NoRoom(f"{size(total - done)} more are needed")
            response.raw.enforce_content_length = False  # else the bytes before a cut are thrown away
            bar = Progress(url.rpartition("/")[2], total, done)
            with bar, open(part, "ab" if done else "wb") as file:
                if not done:  # the file is empty now
                    tag = response.headers.get("ETag", "W/")
                    version = response.headers.get("Last-Modified", "") if tag.startswith("W/") else tag
                    _note(part).write_text(f"{url}\n{version}")
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                if total is not None and bar.done != total:
                    raise requests.RequestException("the connection ended early")
    except requests.RequestException as error:
        reason = reason_of(error) + (f" after {size(bar.done)}" if bar else "")
        if bar is None or bar.done == bar.first:
            raise Unavailable(reason) from error
        return reason
    return ""


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """The part file that this process alone may write.

    Where files cannot be locked, it is one of its own, which nobody continues.
    """
    with exclusive(target.with_name(target.name + ".lock"), wait=True) as locked:
        if locked:
            yield target.with_name(target.name + ".part")
            return
        own = target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}.part")
        try:
            yield own
        finally:
            _discard(own)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".from")


def _version(url: str, part: Path) -> str:
    """Which version of ``url`` the part file is the beginning of; "" where that is not known."""
    try:
        source, _, version = _note(part).read_text().partition("\n")
    except (OSError, UnicodeDecodeError):
        return ""
    return version if source == url else ""


def _mismatch(path: Path, digests: dict[str, str]) -> str:
    for kind, expected in digests.items():
        if expected and (found := file_digest(path, kind.replace("-", ""))) != expected:
            return f"has the {kind} {found} instead of {expected}"
    return ""


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

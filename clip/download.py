"""Fetching OpenAI's weight files: several sources, resumed after a cut, checked, safe side by side.

The address carries the checksum: `https://host/clip/models/<SHA-256>/<file>`. A file that comes with the
repository has one too, `repository:<folder>/<SHA-256>/<file>`, and is only checked.
"""

import http.client
import logging
import os
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from fileio import exclusive, file_digest

logger = logging.getLogger(__name__)

OPENAI = "https://openaipublic.azureedge.net/clip/models/"
REPOSITORY = "repository:"  # start of the address of a file that lies in this repository
# Other hosts of the same files, in the order in which they are tried: {start of an address: replacements}.
MIRRORS: dict[str, tuple[str, ...]] = {OPENAI: ("https://openaipublic.blob.core.windows.net/clip/models/",)}
ATTEMPTS = 10  # connections to one source, as long as each of them brings bytes
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20


class _Cut(ConnectionError):
    """A connection ended in the middle: what came is kept, and another one may bring the rest."""


def download(url: str, root: str | Path | None = None) -> str:
    """Return the local path of a weight file, fetching it first where it is absent or its checksum is wrong.

    Args:
        url: address whose last folder is the file's SHA-256.
        root: folder of the file; by default `$CLIP_CACHE`, else `~/.cache/clip`.

    Raises:
        ValueError: the address carries no SHA-256, or a file of the repository has another one.
        OSError: no source delivered the file; says each reason, and where to put the file by hand.
    """
    folder, sha256, name = _parts(url)
    if folder.startswith(REPOSITORY):
        root = Path(__file__).resolve().parents[1]
        return str(_checked(root / folder.removeprefix(REPOSITORY) / name, sha256))
    target = _target(name, root)
    if _is_verified(target, sha256):
        return str(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{target.parent}: cannot be made ({error}); set CLIP_CACHE to another folder"
        ) from error
    with _exclusive(target) as part:
        if not _is_verified(target, sha256):  # another process may have been faster
            if target.exists():
                logger.warning("%s has another SHA-256 than %s: it will be replaced", target, sha256)
            _fetch_from_any(_sources(url), part, target, sha256)
    return str(target)


def is_local(url: str, root: str | Path | None = None) -> bool:
    """Tell whether `download` has nothing to fetch, unless the file that is there is damaged."""
    folder, _, name = _parts(url)
    return folder.startswith(REPOSITORY) or _target(name, root).exists()


def _parts(url: str) -> tuple[str, str, str]:
    """Split an address into folder, SHA-256 and file."""
    address = re.fullmatch(r"(.*)/([0-9a-f]{64})/([^/]+)", url)
    if not address:
        raise ValueError(f"{url}: no address of the form https://host/folder/<SHA-256>/<file>")
    return address.groups()


def _target(name: str, root: str | Path | None) -> Path:
    return Path(root or os.environ.get("CLIP_CACHE") or "~/.cache/clip").expanduser() / name


def _checked(path: Path, sha256: str) -> Path:
    """Return a file that comes with the repository, if it is what it should be."""
    if not path.is_file():
        raise FileNotFoundError(f'"{path}" is missing; get it back with: git checkout -- "{path}"')
    found = file_digest(path)
    if found != sha256:
        raise ValueError(
            f'"{path}" has SHA-256 {found} instead of {sha256}: it is damaged or was changed; '
            f'restore it with: git checkout -- "{path}" (weights of your own are loaded by their path)'
        )
    return path


def _sources(url: str) -> list[str]:
    """List the address itself, then the same file on other hosts."""
    mirrors = [
        mirror + url.removeprefix(prefix)
        for prefix, others in MIRRORS.items()
        if url.startswith(prefix)
        for mirror in others
    ]
    return [url, *mirrors]


def _fetch_from_any(sources: list[str], part: Path, target: Path, sha256: str) -> None:
    failures = []
    for source in sources:
        logger.info("Downloading %s to %s", source, target)
        try:
            _fetch(source, part, sha256)
        except (OSError, http.client.HTTPException) as error:
            logger.warning("%s: %s", source, error)
            failures.append(f"{source}: {error or type(error).__name__}")
            continue
        os.replace(part, target)
        _remember(target, sha256)
        return
    raise OSError(
        f"{target.name} could not be downloaded. Tried {'; '.join(failures)}. Put the file by hand at "
        f"{target} (SHA-256 {sha256}), or set CLIP_CACHE to the folder that holds it"
    )


def _fetch(source: str, part: Path, sha256: str) -> None:
    """Bring the part file to completion from one source; what is there already is continued.

    Raises:
        OSError: the source fails, stops sending, or sends other bytes than the checksum promises.
    """
    resumed = _size(part) > 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(source, part)
            break
        except _Cut as cut:
            if attempt == ATTEMPTS:
                raise
            logger.info("%s: %s, continuing", source, cut)
    if file_digest(part) == sha256:
        return
    part.unlink()
    if not resumed:
        raise OSError("the bytes it sends have another SHA-256")
    _fetch(source, part, sha256)  # the old beginning may have been the wrong one: once more from the start


def _receive(source: str, part: Path) -> None:
    """Open one connection and append to the part file what it sends.

    Raises:
        _Cut: the connection ended too early, but brought something.
        OSError: it failed before.
    """
    done = _size(part)
    request = urllib.request.Request(source, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing beyond what we have; the checksum will tell whether that is all
            return
        raise
    problem = None
    with response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            done = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        bar = tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=part.stem, disable=None)
        with bar, open(part, "r+b" if part.exists() else "wb") as file:
            file.truncate(done)
            file.seek(done)
            try:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
    size = _size(part)
    if problem or (total is not None and size != total):
        kind = _Cut if size > done else ConnectionError
        raise kind(f"{problem or 'connection closed'} after {size} of {total} bytes")


@contextmanager
def _exclusive(target: Path) -> Iterator[Path]:
    """Let one process at a time fetch the file; yields the part file it may write.

    Where files cannot be locked, each process gets a part file of its own, which nobody else continues.
    """
    with ExitStack() as stack:
        try:
            locked = stack.enter_context(exclusive(target.with_name(target.name + ".lock"), wait=True))
        except OSError as error:
            raise OSError(
                f"{target.parent}: cannot be written ({error}); set CLIP_CACHE elsewhere"
            ) from error
        if locked:
            yield target.with_name(target.name + ".part")
            return
        own = target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}.part")
        stack.callback(own.unlink, missing_ok=True)
        yield own


def _is_verified(target: Path, sha256: str) -> bool:
    """Tell whether the file is there with the right checksum; a checksum once computed is remembered."""
    if not target.exists():
        return False
    if not target.is_file():
        raise OSError(f"{target} is not a file: move it away, or set CLIP_CACHE to another folder")
    try:
        if _note(target).read_text() == _fingerprint(target, sha256):
            return True
    except (OSError, UnicodeDecodeError):
        pass
    if file_digest(target) == sha256:
        _remember(target, sha256)
        return True
    return False


def _remember(target: Path, sha256: str) -> None:
    try:
        _note(target).write_text(_fingerprint(target, sha256))
    except OSError as error:  # a shared read-only folder: then it is computed each time
        logger.debug("%s: %s", target, error)


def _note(target: Path) -> Path:
    return target.with_name(target.name + ".sha256ok")


def _fingerprint(target: Path, sha256: str) -> str:
    stat = target.stat()
    return f"{sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

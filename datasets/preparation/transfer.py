"""Getting one file from one source: resumed after a cut, checked where a checksum is known."""

import hashlib
import inspect
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from datasets.preparation.errors import Damaged, NoRoom, Unavailable, is_full, one_line
from datasets.preparation.progress import Progress, size
from datasets.preparation.sources import File
from fileio import file_digest

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)
ATTEMPTS = 10  # connections to one source, as long as each of them brings bytes
TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds without a byte
CHUNK = 1 << 18
DRIVE = "https://drive.google.com/uc?id={}"


def obtain(file: File, source: str, folder: Path) -> Path:
    """Brings ``file`` from one source to ``folder``; what an earlier call left unfinished is continued.

    Args:
        file: its name and checksums.
        source: https://…, gdrive:<id> or hf:<repository>/<file>@<revision>.
        folder: where the file and its unfinished beginning lie.

    Returns:
        Path of the complete file, its checksum verified where one is known.

    Raises:
        Unavailable: the source does not deliver it, or delivers other bytes.
        NoRoom: the disk is full; what came is kept.
    """
    target = folder / file.name
    # With a checksum any source may continue what another one began; without, only the same source may.
    known = file.md5 or file.sha256
    tag = "" if known else "." + hashlib.sha256(source.encode()).hexdigest()[:8]
    part = folder / f"{file.name}{tag}.part"
    fetch: dict[str, Callable[[str, Path], None]] = {
        "gdrive": from_drive,
        "hf": from_hub,
        "packages": from_packages,
    }
    scheme = source.partition(":")[0]
    folder.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    while True:
        try:
            fetch.get(scheme, from_web)(source, part)
        except OSError as error:
            if is_full(error):
                raise NoRoom(
                    f'no room left for "{part}" ({one_line(error)}; {size(free(folder))} are free); what '
                    "came is kept: make room, or choose another --root, and run the command again"
                ) from error
            raise
        try:
            verify(file, part)
        except Damaged:
            part.unlink()
            if not resumed:
                raise
            logger.info("%s: the part that was there does not fit, fetching all of it", file.name)
            resumed = False
            continue
        os.replace(part, target)
        return target


def from_web(url: str, part: Path) -> None:
    """Appends to ``part`` what an HTTP server has beyond it."""
    import requests

    with requests.Session() as session:
        for attempt in range(1, ATTEMPTS + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                _receive(session, url, part, before)
                return
            except requests.RequestException as error:
                after = part.stat().st_size if part.exists() else 0
                reason = reason_of(error) + (f" after {size(after)}" if after else "")
                if after <= before or attempt == ATTEMPTS:
                    raise Unavailable(reason) from error
                logger.info("%s: %s, continuing", url, reason)


def reason_of(error: BaseException) -> str:
    """What a network error says, without the library's nesting of messages."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        return f"HTTP {response.status_code}"
    kind = type(error).__name__
    words = {
        "ConnectionError": "no connection",
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no bytes for a while",
        "ChunkedEncodingError": "the connection broke",
        "SSLError": "its certificate is not accepted",
        "ProxyError": "the proxy does not let it through",
    }
    return words.get(kind, one_line(error))


def _receive(session: "requests.Session", url: str, part: Path, done: int) -> None:
    import requests

    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing beyond what is there; checksum or unpacking will judge it
            return
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise Unavailable("it sends a web page instead of the file")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            done = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        if total and total - done > free(part.parent):
            raise NoRoom(f"{size(total - done)} more are needed")
        title = url.rpartition("/")[2]
        response.raw.enforce_content_length = False  # else the bytes before a cut are thrown away
        with Progress(title, total, done) as bar, open(part, "ab" if done else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            if total is not None and bar.done != total:
                raise requests.ConnectionError(f"it ended after {bar.done} of {total} bytes")


def from_drive(source: str, part: Path) -> None:
    """Fetches from Google Drive; its page for large files and its quota are gdown's business."""
    import gdown

    folder = part.with_name(part.name + ".drive")  # gdown looks for beginnings by the start of their names
    folder.mkdir(exist_ok=True)
    url = DRIVE.format(source.partition(":")[2])
    options = {
        "url": url,
        "output": str(folder / part.name),
        "resume": True,
        "quiet": not sys.stderr.isatty(),
    }
    if "timeout" in inspect.signature(gdown.download).parameters:  # gdown 6
        options["timeout"] = TIMEOUT
    done = _guarded(lambda: gdown.download(**options))
    if not done:
        raise Unavailable("Google Drive does not hand it out (too many downloads, or no access)")
    os.replace(done, part)
    shutil.rmtree(folder, ignore_errors=True)


def from_hub(source: str, part: Path) -> None:
    """Fetches from Hugging Face, or from ``$HF_ENDPOINT``."""
    import huggingface_hub
    import requests
    from huggingface_hub.utils import disable_progress_bars

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    _guarded(
        lambda: requests.head(f"{endpoint}/", timeout=TIMEOUT)
    )  # the library would try for half a minute
    if not sys.stderr.isatty():
        disable_progress_bars()
    place, _, revision = source.partition(":")[2].partition("@")
    kind = "dataset" if place.startswith("datasets/") else "model"
    owner, repository, name = place.removeprefix("datasets/").split("/", 2)
    folder = part.with_name(part.name + ".hub")
    done = _guarded(
        lambda: huggingface_hub.hf_hub_download(
            f"{owner}/{repository}",
            name,
            repo_type=kind,
            revision=revision or None,
            local_dir=folder,
            endpoint=endpoint,
        )
    )
    os.replace(done, part)
    shutil.rmtree(folder, ignore_errors=True)


def from_packages(source: str, part: Path) -> None:
    """Writes ImageNet's ``classnames.txt`` from two installed packages, where no server delivers it.

    The names are those of CLIP's notebook, from which CoOp copied them, too: open_clip ships them, and timm
    the folder names (wnids) in the same order.
    """
    try:
        from open_clip import IMAGENET_CLASSNAMES
        from timm.data import ImageNetInfo

        wnids = ImageNetInfo("imagenet-1k").label_names()
    except (ImportError, AttributeError, ValueError) as error:
        raise Unavailable(f"the installed open_clip and timm do not have the names: {error}") from error
    lines = (f"{wnid} {name}\n" for wnid, name in zip(wnids, IMAGENET_CLASSNAMES, strict=True))
    part.write_text("".join(lines), encoding="utf-8")
    logger.info("%s is written from the names in open_clip", part.name.partition(".txt")[0] + ".txt")


def _guarded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # these libraries raise what their HTTP libraries raise
        if is_full(error):
            raise
        raise Unavailable(reason_of(error.__cause__ or error)[:300]) from error


def verify(file: File, path: Path) -> None:
    """Compares a file with the checksums that are known of it.

    Raises:
        Damaged: it has another one.
    """
    for kind, expected in (("md5", file.md5), ("sha256", file.sha256)):
        if expected and (found := file_digest(path, kind)) != expected:
            raise Damaged(f"{file.name} has the {kind.upper()} {found} instead of {expected}")


def shown(source: str) -> str:
    """A source as a message names it: a file on Google Drive by the address that a browser opens."""
    scheme, _, name = source.partition(":")
    return f"https://drive.google.com/file/d/{name}/view" if scheme == "gdrive" else source


def with_mirror(sources: tuple[str, ...], mirror: str, place: str) -> tuple[str, ...]:
    """The sources of a file with ``<mirror>/<place>`` before them, where a mirror is given."""
    return (f"{mirror.rstrip('/')}/{quote(place)}", *sources) if mirror else sources


def free(folder: Path) -> int:
    """Bytes that can still be written below a folder."""
    return shutil.disk_usage(folder).free

"""Where files come from: web servers, Google Drive, Hugging Face, installed packages."""

import inspect
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from datasets.preparation.sources import File
from fileio.download import TIMEOUT, fetch_file, from_web, reason_of
from fileio.errors import Unavailable, is_full

logger = logging.getLogger(__name__)
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
    schemes = {"gdrive": from_drive, "hf": from_hub, "packages": from_packages}
    fetch = schemes.get(source.partition(":")[0], from_web)
    fetch_file(source, folder / file.name, sha256=file.sha256, md5=file.md5, fetch=fetch)
    return folder / file.name


def from_drive(source: str, part: Path) -> None:
    """Fetches from Google Drive; its page for large files and its quota are gdown's business."""
    import gdown

    identifier = source.partition(":")[2]
    # A folder for each file on Drive: gdown looks for beginnings by the start of their names.
    folder = part.with_name(f"{part.name}.{quote(identifier, safe='')}")
    folder.mkdir(exist_ok=True)
    url = DRIVE.format(identifier)
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


def shown(source: str) -> str:
    """A source as a message names it: a file on Google Drive by the address that a browser opens."""
    scheme, _, name = source.partition(":")
    return f"https://drive.google.com/file/d/{name}/view" if scheme == "gdrive" else source


def with_mirror(sources: tuple[str, ...], mirror: str, place: str) -> tuple[str, ...]:
    """The sources of a file with ``<mirror>/<place>`` before them, where a mirror is given."""
    return (f"{mirror.rstrip('/')}/{quote(place)}", *sources) if mirror else sources

"""Fetching OpenAI's weight files, each from one of several hosts.

The address carries the checksum: `https://host/clip/models/<SHA-256>/<file>`. A file that comes with the
repository has one too, `repository:<folder>/<SHA-256>/<file>`, and is only checked.
"""

import logging
import os
import re
from pathlib import Path

from fileio import file_digest
from fileio.download import fetch_file
from fileio.errors import NoRoom, Unavailable

logger = logging.getLogger(__name__)

OPENAI = "https://openaipublic.azureedge.net/clip/models/"
REPOSITORY = "repository:"  # start of the address of a file that lies in this repository
# Other hosts of the same files, in the order in which they are tried: {start of an address: replacements}.
MIRRORS: dict[str, tuple[str, ...]] = {OPENAI: ("https://openaipublic.blob.core.windows.net/clip/models/",)}


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
    if target.exists():
        logger.warning("%s has another SHA-256 than %s: it will be replaced", target, sha256)
    failures = []
    for source in _sources(url):
        logger.info("downloading %s to %s", source, target)
        try:
            fetch_file(source, target, sha256=sha256)
        except Unavailable as error:
            logger.warning("%s: %s", source, error)
            failures.append(f"{source}: {error}")
        except NoRoom:
            raise
        except OSError as error:
            raise OSError(
                f"{target.parent}: cannot be written ({error}); set CLIP_CACHE to another folder"
            ) from error
        else:
            _remember(target, sha256)
            return str(target)
    raise OSError(
        f"{name} could not be downloaded. Tried {'; '.join(failures)}. Put the file by hand at "
        f"{target} (SHA-256 {sha256}), or set CLIP_CACHE to the folder that holds it"
    )


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

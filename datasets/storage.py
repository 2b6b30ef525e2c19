"""Files made from a data set are kept beside it, or in the user's cache if it is read-only."""

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fileio import atomic_write


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/vlm-heba``, or ``~/.cache/vlm-heba``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "vlm-heba"


def places(folder: Path, name: str) -> list[Path]:
    """Where the file ``name`` of a data set may lie: in ``folder``, then in the user's cache.

    In the cache the path of ``folder`` tells data sets of one name apart.
    """
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return [folder / name, cache_folder() / f"{folder.name}-{digest}" / name]


def find(folder: Path, name: str) -> Path | None:
    """The file if it is there, beside the data set first."""
    return next((path for path in places(folder, name) if path.is_file()), None)


def keep(content: Any, folder: Path, name: str, *, replace: bool = False) -> Path | None:
    """Writes ``content`` as JSON, whole or not at all (gzip if the name ends in .gz).

    Args:
        content: what JSON can hold.
        folder: the data set's folder.
        name: of the file.
        replace: write over a file that is there; otherwise that one stays, so that of several processes
            that start together all use the file of the first.

    Returns:
        Where the file lies; None if it can be written nowhere.
    """
    text = json.dumps(content, separators=(",", ":")).encode()
    if name.endswith(".gz"):
        text = gzip.compress(text, compresslevel=5, mtime=0)
    for path in places(folder, name):
        try:
            if path.parent == folder and not folder.stat().st_mode & 0o222:
                continue  # marked read-only: root could write, and should not
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, replace=replace) as file:
                file.write(text)
        except OSError:  # read-only, full, or over quota
            continue
        return path
    return None


def load(path: Path) -> Any:
    """The content of a file that ``keep`` wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise ValueError(f'"{path}" cannot be read ({error}); delete it, it is made anew') from error

"""Files made from a data set lie in the user's cache; nothing is written into the data set's folder."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fileio import atomic_write


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/vlm-heba``, or ``~/.cache/vlm-heba``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "vlm-heba"


def cached(folder: Path, name: str) -> Path:
    """Path in the cache of the file ``name`` of the data set in ``folder``, whose path is part of it."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / f"{folder.name}-{digest}" / name


def find(folder: Path, name: str) -> Path | None:
    """The file if there is one: the user's own in ``folder``, else that of the cache."""
    return next((path for path in (folder / name, cached(folder, name)) if path.is_file()), None)


def keep(content: Any, folder: Path, name: str) -> Path | None:
    """Writes ``content`` as JSON into the cache, whole or not at all.

    A file that is there stays, so that of several processes that start together all use the first one's.

    Returns:
        Path of the file; None if it cannot be written.
    """
    path = cached(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, replace=False) as file:
            file.write(json.dumps(content, separators=(",", ":")).encode())
    except OSError:  # read-only, full, or over quota
        return None
    return path

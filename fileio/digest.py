"""Digests of files."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def file_digest(path: str | Path, kind: str = "sha256") -> str:
    """SHA-256, or the digest of another kind, of a file's content in hexadecimal digits."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def unchanged_digest(path: str | Path) -> str:
    """SHA-256 of a file that is read once in a process, as long as its size and time of change stay."""
    path = Path(path).absolute()
    state = path.stat()
    return _digest_of_version(path, state.st_size, state.st_mtime_ns)


@cache
def _digest_of_version(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def labelled_files_digest(items: Iterable[Any], root: str | Path) -> str:
    """SHA-256 of a list of labelled files: equal where files, labels and their order are.

    Args:
        items: with ``impath``, ``label`` and ``classname``; digested are the lines ``path below root, tab,
            label, tab, class name`` in their order.
        root: folder below which the files lie, wherever that is.
    """
    start = f"{Path(root).expanduser().absolute()}{os.sep}"
    lines = (f"{item.impath.removeprefix(start)}\t{item.label}\t{item.classname}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def describe_mismatch(there: str | None, here: str | None) -> str:
    """How two SHA-256 digests differ; "" where they do not, or one is not known."""
    return f"SHA-256 {there[:12]}…, not {here[:12]}…" if there and here and there != here else ""

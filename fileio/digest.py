"""Digests of files."""

import hashlib
from functools import cache
from pathlib import Path

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

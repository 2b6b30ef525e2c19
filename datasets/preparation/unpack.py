"""Unpacking zip and tar archives of other people: nothing lands outside the target or fills the disk."""

import errno
import logging
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from datasets.preparation.errors import Damaged, NoRoom, is_full, one_line
from datasets.preparation.progress import Progress, size

logger = logging.getLogger(__name__)
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_RATIO = 20  # photographs hardly shrink: an archive that grows more than this is a bomb …
SMALL = 1 << 30  # … unless what it grows to is small
MAX_FILES = 3_000_000  # and folders
MAX_HEADER = 1 << 20  # bytes of a long name or of PAX records, which are read into memory
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks the others without a bound
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
CHUNK = 1 << 20


def is_archive(name: str) -> bool:
    """Whether a file of that name is one to unpack."""
    return name.lower().endswith(SUFFIXES)


@dataclass
class Limit:
    """What may still be written: bytes, and files and folders."""

    bytes: int
    files: int = MAX_FILES

    def take(self, count: int) -> None:
        """Counts bytes of a file.

        Raises:
            Damaged: there are more than there may be.
        """
        self.bytes -= count
        if self.bytes < 0:
            raise Damaged(
                "it unpacks to far more than its size allows (a bomb, or not the file it should be)"
            )

    def file(self) -> None:
        """Counts a file or a folder; raises Damaged likewise."""
        self.files -= 1
        if self.files < 0:
            raise Damaged(f"it holds more than {MAX_FILES:,} files")


def unpack(archive: Path, target: Path, limit: int | None = None) -> None:
    """Unpacks an archive to ``target``, which appears complete or not at all.

    Only files and folders are made, with this user's default permissions. A member with an absolute name,
    ``..`` in it, a link or a device makes the whole archive unacceptable.

    Args:
        archive: a zip or tar file, compressed in any way that Python reads.
        target: folder to make; must not exist.
        limit: bytes that it may unpack to; by default 20 times its size, at least 1 GB.

    Raises:
        Damaged: it is no such archive, is cut, or holds what it must not hold.
        NoRoom: the disk is full; nothing of it is left.
    """
    allowed = Limit(max(MAX_RATIO * archive.stat().st_size, SMALL) if limit is None else limit)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with complaints(archive.name, partial):
            if zipfile.is_zipfile(archive):
                unzip(archive, partial, allowed)
            else:
                with open(archive, "rb") as file, Progress(f"unpacking {archive.name}") as bar:
                    untar(file, partial, allowed, bar)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def complaints(name: str, folder: Path) -> Iterator[None]:
    """Turns what the libraries raise on bad archives into Damaged, and a full disk into NoRoom."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{name} is refused: {error}") from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise Damaged(f"{name} is cut or no zip or tar archive: {one_line(error)}") from error
    except MemoryError as error:
        raise Damaged(f"{name} is refused: unpacking it needs too much memory") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(
            f"{name} is refused: it has a file and a folder of one name: {one_line(error)}"
        ) from error
    except OSError as error:
        if is_full(error):
            raise NoRoom(
                f'no room left to unpack {name} in "{folder.parent}" ({one_line(error)}); make room, or '
                "choose another --root, and run the command again"
            ) from error
        if error.errno in BAD_NAME:
            raise Damaged(f"{name} is refused: {error.strerror} ({str(error.filename)[-60:]!r})") from error
        if error.errno is None:  # gzip's and lzma's complaints
            raise Damaged(f"{name} is cut or damaged: {one_line(error)}") from error
        raise


def unzip(archive: Path, folder: Path, limit: Limit) -> None:
    """Unpacks a zip file into an existing folder."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        total = sum(member.file_size for member in members)
        limit.take(0 if total <= limit.bytes else total)
        if total > shutil.disk_usage(folder).free:
            raise NoRoom(f"{size(total)} are needed")
        with Progress(f"unpacking {archive.name}", total) as bar:
            for member in members:
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise Damaged(f'"{member.filename}" is a link or a device')
                if member.compress_type not in METHODS:
                    raise Damaged(
                        f'"{member.filename}" is packed with another method than stored and deflate'
                    )
                path = safe_path(folder, member.filename)
                if member.is_dir():
                    limit.file()
                    path.mkdir(parents=True, exist_ok=True)
                elif not is_litter(member.filename):
                    with file.open(member) as content:
                        write(content, path, limit, bar)


class Member(tarfile.TarInfo):
    """A member of a tar file whose extended headers have a bounded size."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "Member":
        """Reads a header.

        Raises:
            RuntimeError: it announces an extended header that is too large; tarfile would hide a Damaged.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENDED and member.size > MAX_HEADER:
            raise RuntimeError(f"a header of {size(member.size)}")
        return member


def untar(stream: IO[bytes], folder: Path, limit: Limit, bar: Progress) -> None:
    """Unpacks a tar file, given as an open file, into an existing folder."""
    with tarfile.open(fileobj=stream, tarinfo=Member) as file:
        for member in file:
            if not (member.isfile() or member.isdir()):
                raise Damaged(f'"{member.name}" is a link or a device')
            path = safe_path(folder, member.name)
            if member.isdir():
                limit.file()
                path.mkdir(parents=True, exist_ok=True)
            elif not is_litter(member.name):
                content = file.extractfile(member)
                if write(content, path, limit, bar) != member.size:
                    raise Damaged(f'it ends within "{member.name}"')


def safe_path(folder: Path, name: str) -> Path:
    """Where a member goes.

    Raises:
        Damaged: that would be outside ``folder``.
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or pure.drive or name[1:2] == ":":
        raise Damaged(f'"{name}" leads out of the folder')
    return folder.joinpath(*pure.parts)


def is_litter(name: str) -> bool:
    """Whether a member is one of the notes that macOS adds to archives."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"


def write(content: IO[bytes], path: Path, limit: Limit, bar: Progress) -> int:
    """Writes a member; returns its bytes."""
    limit.file()
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(path, "wb") as file:
        while chunk := content.read(CHUNK):
            limit.take(len(chunk))
            file.write(chunk)
            bar.update(len(chunk))
            count += len(chunk)
    return count

"""Unpacking zip and tar archives of other people: nothing lands outside the target or fills the disk."""

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from fileio.errors import Damaged, NoRoom, is_full, one_line
from fileio.progress import Progress, size

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_RATIO = 20  # photographs hardly shrink: an archive that grows more than this is a bomb …
SMALL = 1 << 30  # … unless what it grows to is small
MAX_MEMBERS = 3_000_000  # files and folders
MAX_HEADER = 1 << 20  # bytes of a long name or of PAX records, which are read into memory
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks the others without a bound
BROKEN = (  # what the libraries raise on damaged archives, besides OSError
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)
# Some have no filter (Debian 12's Python 3.11.2): names and kinds of members are checked here in any case.
FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def is_archive(name: str) -> bool:
    """Whether a file of that name is one to unpack."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path, limit: int | None = None) -> None:
    """Unpacks an archive to ``target``, which appears complete or not at all.

    Only files and folders are made. A member with an absolute name, ``..`` in it, a link or a device makes
    the whole archive unacceptable.

    Args:
        archive: a zip or tar file, compressed in any way that Python reads.
        target: folder to make; must not exist.
        limit: bytes that it may unpack to; by default 20 times its size, at least 1 GB.

    Raises:
        Damaged: it is no such archive, is cut, or holds what it must not hold.
        NoRoom: the disk is full; nothing of it is left.
    """
    if limit is None:
        limit = max(MAX_RATIO * archive.stat().st_size, SMALL)
    is_zip = zipfile.is_zipfile(archive)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with complaints(archive.name, partial):
            if is_zip:
                unzip(archive, partial, limit)
            else:
                with open(archive, "rb") as file, Progress(f"unpacking {archive.name}") as bar:
                    untar(file, partial, limit, bar)
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
    except BROKEN as error:
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


def unzip(archive: Path, folder: Path, limit: int) -> None:
    """Unpacks a zip file into an existing folder; ``zipfile`` writes no more than the sizes it announces."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        total = sum(member.file_size for member in members)
        check_amount(len(members), total, limit)
        if total > shutil.disk_usage(folder).free:
            raise NoRoom(f"{size(total)} are needed")
        with Progress(f"unpacking {archive.name}", total) as bar:
            for member in members:
                check_name(member.filename)
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise Damaged(f'"{member.filename}" is a link or a device')
                if member.compress_type not in METHODS:
                    raise Damaged(
                        f'"{member.filename}" is packed with another method than stored and deflate'
                    )
                if not is_litter(member.filename):
                    member.filename = member.filename.replace("\\", "/")
                    file.extract(member, folder)
                bar.update(member.file_size)


class Member(tarfile.TarInfo):
    """A member of a tar file whose extended headers have a bounded size."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "Member":
        """Reads a header.

        Raises:
            RuntimeError: it announces an extended header that is too large; tarfile would hide a Damaged.
        """
        member = super().frombuf(buf, encoding, errors)
        if not member.isreg() and member.size > MAX_HEADER:
            raise RuntimeError(f"a header of {size(member.size)}")
        return member


def untar(stream: IO[bytes], folder: Path, limit: int, bar: Progress) -> None:
    """Unpacks a tar file, given as an open file, into an existing folder."""
    total = 0
    with tarfile.open(fileobj=stream, tarinfo=Member) as file:
        for number, member in enumerate(file, 1):
            total += member.size
            check_amount(number, total, limit)
            check_name(member.name)
            if not (member.isfile() or member.isdir()):
                raise Damaged(f'"{member.name}" is a link or a device')
            bar.update(member.size)
            if is_litter(member.name):
                continue
            if member.isdir():  # without a filter, tarfile would let this user alone read it
                (folder / member.name).mkdir(parents=True, exist_ok=True)
            else:  # without attributes: files get this user's default permissions
                file.extract(member, folder, set_attrs=False, **FILTER)


def check_amount(members: int, total: int, limit: int) -> None:
    """Checks how many members an archive has, and how many bytes in all.

    Raises:
        Damaged: more than there may be.
    """
    if total > limit:
        raise Damaged("it unpacks to far more than its size allows (a bomb, or not the file it should be)")
    if members > MAX_MEMBERS:
        raise Damaged(f"it holds more than {MAX_MEMBERS:,} files")


def check_name(name: str) -> None:
    """Checks a member's name; ``zipfile`` would change one that leads outside, and so hide it.

    Raises:
        Damaged: it leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise Damaged(f'"{name}" leads out of the folder')


def is_litter(name: str) -> bool:
    """Whether a member is one of the notes that macOS adds to archives."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"

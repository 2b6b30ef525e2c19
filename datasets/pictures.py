"""Finds the pictures in a folder of class folders and tries which of them can be read."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datasets.raw_splits import visible_folders
from fileio.pictures import depth_fault

logger = logging.getLogger(__name__)

NOT_CLASSES = ("split_fewshot", "descriptions")  # folders that a data root may have besides its classes
NOT_PICTURES = (".mpg", ".mpeg")  # Pillow recognises these films, but reads none of their frames
NOT_UTF8 = "its name is not UTF-8; rename it"
SMALL = (64, 64)  # JPEG files are decoded at an eighth of their size, not below this


def picture_suffixes() -> set[str]:
    """Suffixes, in lower case with the dot, of the formats that the installed Pillow opens."""
    found = Image.registered_extensions()  # loads all formats
    return {suffix for suffix, kind in found.items() if kind in Image.OPEN} - set(NOT_PICTURES)


def find_pictures(folder: Path, root: Path) -> dict[str, list[str]]:
    """The pictures of each class folder, at any depth, as paths below ``root``; both sorted.

    Hidden files and folders are passed by; so are files that are no pictures by their suffix, whose number is
    logged. A folder without any picture is no class.

    Args:
        folder: holds one folder a class.
        root: the data set's folder, ``folder`` or above it.
    """
    suffixes = picture_suffixes()
    classes, others = {}, Counter()
    for name in visible_folders(folder):
        pictures, passed_by = [], Counter()
        for file in visible_files(folder / name):
            suffix = file.suffix.lower()
            if suffix in suffixes:
                pictures.append(file.relative_to(root).as_posix())
            else:
                passed_by[suffix or "no suffix"] += 1
        if pictures or name not in NOT_CLASSES:
            others += passed_by  # those in the folders of our own files are no user's
        if pictures:
            classes[name] = sorted(pictures)
        elif name not in NOT_CLASSES:
            logger.warning('"%s" holds no pictures and is taken for no class', printable(folder / name))
    if others:
        logger.warning(
            "%s: %d files are passed by, no pictures by their suffix (%s)",
            folder,
            others.total(),
            ", ".join(f"{suffix}: {number}" for suffix, number in others.most_common(5)),
        )
    return classes


def visible_files(folder: Path) -> Iterator[Path]:
    """The files in ``folder`` at any depth; hidden files and folders are passed by."""
    for place, below, files in os.walk(folder):
        below[:] = [inner for inner in below if not inner.startswith(".")]
        yield from (Path(place) / file for file in files if not file.startswith("."))


def picture_folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that hold a picture, at any depth; sorted, no hidden ones."""
    suffixes = picture_suffixes()
    return [
        name
        for name in visible_folders(folder)
        if name not in NOT_CLASSES
        and any(file.suffix.lower() in suffixes for file in visible_files(folder / name))
    ]


def holds_pictures(folder: Path) -> bool:
    """Whether there are pictures in ``folder`` itself."""
    suffixes = picture_suffixes()
    return any(
        Path(entry.name).suffix.lower() in suffixes and not entry.name.startswith(".")
        for entry in os.scandir(folder)
        if not entry.is_dir()
    )


def unreadable(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """Reads every picture below ``folder`` once; returns what is wrong with those that cannot be used."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
        faults = pool.map(fault, (folder / path for path in paths))
        shown = tqdm(faults, "Reading pictures", len(paths), unit="", disable=None, leave=False)
        found = {path: why for path, why in zip(paths, shown, strict=True) if why}
    return {path: NOT_UTF8 for path in paths if printable(path) != path} | found


def printable(path: str | Path) -> str:
    """A path as it can be written anywhere: bytes of a name that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def fault(path: Path) -> str:
    """What is wrong with a picture; empty if it can be read to its end."""
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
        with Image.open(path) as image:
            image.draft("RGB", SMALL)  # several times faster, and still reads all of the file
            image.load()
            return depth_fault(image)
    except Image.DecompressionBombError as error:
        return f"too large: {error}"
    except Exception as error:  # noqa: BLE001  # decoders raise nearly anything on damaged files
        return " ".join(str(error).split()) or type(error).__name__

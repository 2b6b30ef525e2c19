"""Splits drawn from a data set's raw annotations, where CoOp's ``split_zhou_*.json`` is missing.

The rules are those of CoOp's loaders (``datasets/*.py``, ff61507). CoOp draws with Python's generator as
seeded by train.py and lists files as the file system does; here the generator is one of its own with the same
seed, and files are listed in sorted order unless ``DATASET.LISTING`` is unsorted. Such a split is not the
official one.
"""

import os
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

Item = tuple[str, int, str]  # path below the image folder, label from 0, class name
Split = dict[str, list[Item]]  # train, val, test

TRAIN_SHARE, VAL_SHARE = 0.5, 0.2  # of a class; the rest is for the test
LISTINGS = ("sorted", "unsorted")


def visible_folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, hidden ones left out, sorted (capitals first, as CoOp sorts)."""
    return sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )


def visible_files(folder: Path, listing: str) -> list[str]:
    """Names in ``folder``, hidden ones left out; ``listing`` unsorted: in the file system's order.

    Raises:
        ValueError: no such order.
    """
    if listing not in LISTINGS:
        raise ValueError(f'DATASET.LISTING is "{listing}"; set it to {" or ".join(LISTINGS)}')
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return sorted(names) if listing == "sorted" else names


def split_class(paths: list[str], label: int, name: str, split: Split, rng: random.Random) -> None:
    """Shuffles the images of one class and adds them to the three parts of ``split``.

    Raises:
        ValueError: they are too few for three parts.
    """
    rng.shuffle(paths)
    train, val = round(TRAIN_SHARE * len(paths)), round(VAL_SHARE * len(paths))
    parts = {"train": paths[:train], "val": paths[train : train + val], "test": paths[train + val :]}
    if not all(parts.values()):
        raise ValueError(f'class "{name}" has {len(paths)} images, too few to draw train, val and test from')
    for part, chosen in parts.items():
        split[part] += [(path, label, name) for path in chosen]


def split_folders(
    image_dir: Path,
    rng: random.Random,
    listing: str,
    *,
    ignored: Collection[str] = (),
    renames: Mapping[str, str] | None = None,
) -> Split:
    """Classes are folders, labels their places in sorted order; each class is split at random.

    Args:
        image_dir: holds the class folders.
        rng: draws.
        listing: order of the files before the draw.
        ignored: folders that are no classes.
        renames: class names that are not the folder's.

    Raises:
        ValueError: there are no class folders.
    """
    split: Split = {"train": [], "val": [], "test": []}
    folders = [name for name in visible_folders(image_dir) if name not in ignored]
    if not folders:
        raise ValueError(f'"{image_dir}" has no class folders')
    for label, folder in enumerate(folders):
        paths = [f"{folder}/{file}" for file in visible_files(image_dir / folder, listing)]
        split_class(paths, label, (renames or {}).get(folder, folder), split, rng)
    return split


def split_labelled(items: list[Item], rng: random.Random) -> Split:
    """Images without official parts: each class is split at random, classes as they first appear."""
    split: Split = {"train": [], "val": [], "test": []}
    classes: dict[tuple[int, str], list[str]] = {}
    for path, label, name in items:
        classes.setdefault((label, name), []).append(path)
    for (label, name), paths in classes.items():
        split_class(paths, label, name, split, rng)
    return split


def split_trainval(trainval: list[Item], test: list[Item], rng: random.Random) -> Split:
    """The official test part stays; of each class of the rest a fifth, drawn at random, is for validation."""
    split: Split = {"train": [], "val": [], "test": test}
    classes: dict[int, list[Item]] = {}
    for item in trainval:
        classes.setdefault(item[1], []).append(item)
    for items in classes.values():
        rng.shuffle(items)
        val = round(VAL_SHARE * len(items))
        split["val"] += items[:val]
        split["train"] += items[val:]
    return split


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, blanks around them, empty lines and a byte order mark left out."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def read_mat(path: Path) -> dict[str, Any]:
    """A MATLAB file as scipy reads it.

    Raises:
        ValueError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError(f'reading "{path}" needs scipy: pip install scipy') from error
    return loadmat(str(path))

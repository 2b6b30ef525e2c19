"""Anybody's own pictures: a folder with one folder a class, or train/[val/]test of those."""

import json
import logging
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import storage
from datasets.base import FewShotDataset, read_split, split_images
from datasets.pictures import find_pictures, unreadable
from datasets.raw_splits import VAL_SHARE, Split, read_lines, visible_folders

logger = logging.getLogger(__name__)

TEST_SHARE = 0.3  # as in CoOp's splits: half of a class for training, a fifth for validation
SPLIT_FILE = "split_image_folder.json"
SHOWN = 10  # unreadable pictures that an error names

Classes = dict[str, list[str]]  # pictures by class folder, as paths below the root


@DATASET_REGISTRY.register()
class ImageFolder(FewShotDataset):
    """``--root`` is the folder itself; its split is drawn once and kept as ``split_image_folder.json``.

    The draw depends on the names of folders and files alone, not on a run's seed: all runs have the same test
    pictures. A class is called like its folder, unless ``classnames.txt`` or ``classnames.json`` says else.
    docs/OWN_DATA.md explains it to users.

    Raises:
        FileNotFoundError: there are no class folders with pictures, or pictures of the split are gone.
        ValueError: a picture cannot be read (and ``DATASET.BAD_IMAGES`` is refuse), a class has too few
            pictures, or the file of class names does not fit.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.bad_images = cfg.DATASET.BAD_IMAGES
        if self.bad_images not in ("refuse", "skip"):
            raise ValueError(f'DATASET.BAD_IMAGES is "{self.bad_images}"; set it to refuse or skip')
        super().__init__(cfg)

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        root = self.dataset_dir
        path = storage.find(root, SPLIT_FILE)
        if path is not None:
            parts = read_split(path, root)
            check_unchanged(root, path, [item.impath for part in parts for item in part])
            return self.named(parts)
        split = draw_split(root, self.bad_images)
        path = storage.keep(split, root, SPLIT_FILE)
        if path is None:
            logger.warning("The split cannot be kept, no folder is writable; the next run draws it again")
            return self.named(split_images(split, root))
        logger.info("A split was drawn for this and all later runs: %s", path)
        return self.named(read_split(path, root))

    def named(self, parts: Iterable[list[Datum]]) -> tuple[list[Datum], ...]:
        """The images with the class names that their folders go by."""
        parts = tuple(parts)
        names = read_names(self.dataset_dir, {item.classname for part in parts for item in part})
        return tuple(
            [Datum(impath=item.impath, label=item.label, classname=names[item.classname]) for item in part]
            for part in parts
        )


def draw_split(root: Path, bad_images: str) -> dict[str, Any]:
    """A split of a folder's pictures; class names are the folders', pictures left out are ``skipped``."""
    found = {part: find_pictures(folder, root) for part, folder in part_folders(root).items()}
    skipped = drop_unreadable(root, found, bad_images)
    if not found["train"]:
        raise FileNotFoundError(
            f'"{root}" (from --root or DATA=) has no folders with pictures; make it <class>/<picture>, '
            "or as train/<class>/<picture> and test/<class>/<picture>"
        )
    for part, classes in found.items():
        unknown = classes.keys() - found["train"].keys()
        if unknown:
            raise ValueError(f'"{root}": class "{min(unknown)}" of {part} has no pictures in train')
    rng = random.Random(0)
    split: Split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(found["train"]):
        pictures = {part: classes.get(name, []) for part, classes in found.items()}
        for part, paths in complete(pictures, rng, name).items():
            split[part] += [(path, label, name) for path in paths]
    return {**split, "skipped": skipped}


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of the given parts; a folder of class folders alone is all ``train``.

    Where there is a val but no test, val is the test, as in ImageNet.
    """
    folders = {part: root / part for part in ("train", "val", "test") if (root / part).is_dir()}
    if "train" not in folders or len(folders) == 1 or not visible_folders(folders["train"]):
        return {"train": root}
    if "test" not in folders:
        folders["test"] = folders.pop("val")
    return folders


def drop_unreadable(root: Path, found: dict[str, Classes], bad_images: str) -> dict[str, str]:
    """Takes unreadable pictures out of ``found``; returns them with what is wrong.

    Raises:
        ValueError: there are some, and they are to be refused.
    """
    paths = [path for classes in found.values() for pictures in classes.values() for path in pictures]
    faults = unreadable(root, paths)
    if faults and bad_images == "refuse":
        shown = "; ".join(f'"{root / path}" ({why})' for path, why in list(faults.items())[:SHOWN])
        raise ValueError(
            f"{len(faults)} of {len(paths)} pictures cannot be used: {shown}"
            f"{'; …' if len(faults) > SHOWN else ''}. Remove them, or set DATASET.BAD_IMAGES skip"
        )
    for path, why in faults.items():
        logger.warning('Skipped "%s": %s', root / path, why)
    for classes in found.values():
        for name, pictures in list(classes.items()):
            classes[name] = [path for path in pictures if path not in faults]
            if not classes[name]:
                logger.warning('Class folder "%s" has no readable picture and is left out', name)
                del classes[name]
    return faults


def complete(pictures: Classes, rng: random.Random, name: str) -> Classes:
    """Draws the parts that are not given from the training pictures of one class; one at least stays.

    Raises:
        ValueError: there are too few.
    """
    train, drawn = list(pictures["train"]), {}
    rng.shuffle(train)
    total = len(train)
    if "test" not in pictures:
        if total < 2:
            raise ValueError(
                f'class "{name}" has {total} picture; it needs one for training and one for test'
            )
        number = max(1, round(TEST_SHARE * total))
        drawn["test"], train = train[:number], train[number:]
    if "val" not in pictures:
        number = round(VAL_SHARE * total)
        drawn["val"], train = train[:number], train[number:]
    return {**pictures, **drawn, "train": train}


def check_unchanged(root: Path, path: Path, used: list[str]) -> None:
    """Whether the folder still holds what its split was drawn from.

    Raises:
        FileNotFoundError: pictures of the split are gone.
    """
    there = {
        str(root / picture)
        for folder in part_folders(root).values()
        for pictures in find_pictures(folder, root).values()
        for picture in pictures
    }
    gone = [picture for picture in used if picture not in there and not Path(picture).is_file()]
    if gone:
        raise FileNotFoundError(
            f'No picture at "{gone[0]}" ({len(gone)} of {len(used)} are gone); put them back, or delete '
            f'"{path}" to draw another split'
        )
    new = there - set(used) - {str(root / skipped) for skipped in storage.load(path).get("skipped", {})}
    if new:
        logger.warning(
            '%d pictures are not in the split, e.g. "%s"; delete %s to draw anew', len(new), min(new), path
        )


def read_names(root: Path, folders: set[str]) -> dict[str, str]:
    """The class name of each folder: ``classnames.json`` {folder: name}, or ``classnames.txt``, or its own.

    A line of ``classnames.txt`` is a folder without blanks in its name, a blank, and the class name.

    Raises:
        ValueError: the file names folders that are not there, or one name twice, or is no such file.
    """
    names = {folder: folder for folder in sorted(folders)}
    path = next(
        (root / file for file in ("classnames.json", "classnames.txt") if (root / file).is_file()), None
    )
    if path is None:
        return names
    try:
        if path.suffix == ".json":
            given = dict(json.loads(path.read_text("utf-8-sig")))
        else:
            given = dict(line.split(maxsplit=1) for line in read_lines(path))
        if not all(isinstance(name, str) and name.strip() for name in given.values()):
            raise ValueError("a name is no text")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f'"{path}" does not give a class name for each folder ({error}); lines of classnames.txt are '
            "<folder> <class name>, classnames.json is {folder: class name}"
        ) from error
    unknown = given.keys() - folders
    if unknown:
        raise ValueError(
            f'"{path}" names the folder "{min(unknown)}", which is no class; classes: {", ".join(names)}'
        )
    names |= given
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twice:
        raise ValueError(f'"{path}": two folders are called "{min(twice)}"; give each its own name')
    logger.info("Class names from %s", path)
    return names

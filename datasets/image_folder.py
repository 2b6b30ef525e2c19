"""Anybody's own pictures: a folder with one folder a class, or train/[val/]test of those."""

import json
import logging
import os
import random
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import storage
from datasets.base import FewShotDataset, read_split, split_images
from datasets.folder_layout import check_are_classes, find_parts, names_file, say_what_is_used, shown
from datasets.pictures import find_pictures, printable, unreadable
from datasets.raw_splits import VAL_SHARE, Split, read_lines
from datasets.splits import check_split
from fileio.text import is_blank, unique_keys

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
            parts = read_split(path, root, remedy=f'correct it, or delete "{path}" to draw another')
            used = [item.impath for part in parts for item in part]
            check_unchanged(root, path, parts)
            if self.bad_images == "skip":
                check_readable(path, used)
            return self.named(parts)
        split = draw_split(root, self.bad_images)
        path = storage.keep(split, root, SPLIT_FILE)
        if path is None:
            logger.warning(
                'The split cannot be kept, "%s" is not writable; the next run draws it again',
                storage.cached(root, SPLIT_FILE).parent,
            )
            return self.named(split_images(split, root))
        logger.info("A split was drawn for this and all later runs: %s", path)
        return self.named(read_split(path, root))

    def named(self, parts: Iterable[list[Datum]]) -> tuple[list[Datum], ...]:
        """The images with the class names that their folders go by; links to one file are warned of."""
        parts = tuple(parts)
        warn_of_links(item.impath for part in parts for item in part)
        names = read_names(self.dataset_dir, {item.classname for part in parts for item in part})
        return tuple(
            [Datum(impath=item.impath, label=item.label, classname=names[item.classname]) for item in part]
            for part in parts
        )


def draw_split(root: Path, bad_images: str) -> dict[str, Any]:
    """A split of a folder's pictures; class names are the folders', pictures left out are ``skipped``."""
    home, folders = find_parts(root)
    if "train" not in folders:
        given = " and ".join(f'"{folder.name}"' for folder in folders.values())
        raise ValueError(
            f'"{root}": {given} hold class folders, but there is no train/<class> beside them; add it, '
            "or give the folders another name if they are classes themselves"
        )
    found = {part: find_pictures(folder, root) for part, folder in folders.items()}
    if found["train"]:
        check_are_classes(root, folders["train"], list(found["train"]))
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
    settle_parts(folders, found)
    say_what_is_used(root, home, folders)
    rng = random.Random(0)
    split: Split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(found["train"]):
        pictures = {part: classes.get(name, []) for part, classes in found.items()}
        for part, paths in complete(pictures, rng, name).items():
            split[part] += [(path, label, name) for path in paths]
    check_split(split, f'"{root}"', "correct it")
    return {**split, "skipped": skipped}


def settle_parts(folders: dict[str, Path], found: dict[str, Classes]) -> None:
    """Takes parts without labelled pictures out of ``found``, to be drawn; where there is no test, val is."""
    for part in [part for part, classes in found.items() if not classes]:
        logger.warning('"%s" has no pictures in class folders and is not used as %s', folders[part], part)
        del found[part]
    if "test" in found:
        return
    if "val" in found:
        found["test"] = found.pop("val")  # as in ImageNet
        logger.warning('The pictures of "%s" are the test; those for validation are drawn', folders["val"])
    elif "test" in folders:
        logger.warning("The test pictures are drawn from those of train")


def drop_unreadable(root: Path, found: dict[str, Classes], bad_images: str) -> dict[str, str]:
    """Takes unreadable pictures out of ``found``; returns them with what is wrong.

    Raises:
        ValueError: there are some, and they are to be refused.
    """
    paths = [path for classes in found.values() for pictures in classes.values() for path in pictures]
    faults = unreadable(root, paths)
    if faults and bad_images == "refuse":
        shown = "; ".join(f'"{printable(root / path)}" ({why})' for path, why in list(faults.items())[:SHOWN])
        raise ValueError(
            f"{len(faults)} of {len(paths)} pictures cannot be used: {shown}"
            f"{'; …' if len(faults) > SHOWN else ''}. Remove them, or set DATASET.BAD_IMAGES skip"
        )
    for path, why in faults.items():
        logger.warning('Skipped "%s": %s', printable(root / path), why)
    for classes in found.values():
        for name, pictures in list(classes.items()):
            classes[name] = [path for path in pictures if path not in faults]
            if not classes[name]:
                logger.warning('Class folder "%s" has no readable picture and is left out', printable(name))
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


def warn_of_links(paths: Iterable[str]) -> None:
    """One line where paths lead to one file, as where a class folder or ``test`` is a link to another."""
    first: dict[tuple[int, int], str] = {}
    links = []
    for path in paths:
        status = os.stat(path)
        if first.setdefault((status.st_dev, status.st_ino), path) != path:
            links.append((path, first[status.st_dev, status.st_ino]))
    if links:
        logger.warning(
            '%d pictures of the split are links to others of it, e.g. "%s" is "%s": accuracies are wrong '
            "where a picture has two labels, or is in train and in test",
            len(links),
            *map(printable, links[0]),
        )


def check_unchanged(root: Path, path: Path, parts: Iterable[list[Datum]]) -> None:
    """Whether the folder still holds what its split was drawn from.

    Raises:
        FileNotFoundError: pictures of the split are gone.
        ValueError: an earlier version drew it, from folders that are not the classes, or it is damaged.
    """
    items = [item for part in parts for item in part]
    used = [item.impath for item in items]
    found = [find_pictures(folder, root) for folder in find_parts(root)[1].values()]
    there = {str(root / path) for classes in found for pictures in classes.values() for path in pictures}
    gone = [picture for picture in used if picture not in there and not Path(picture).is_file()]
    if gone:
        raise FileNotFoundError(
            f'No picture at "{gone[0]}" ({len(gone)} of {len(used)} are gone); put them back, or delete '
            f'"{path}" to draw another split'
        )
    skipped = json.loads(path.read_bytes()).get("skipped")  # a split that was drawn here has it
    if not isinstance(skipped, (dict, type(None))):
        raise ValueError(
            f'"{path}": "skipped" is {reprlib.repr(skipped)}, not an object {{picture: fault}}; remove it, '
            "or delete the file to draw another split"
        )
    names, folders = {item.classname for item in items}, {name for classes in found for name in classes}
    if (
        skipped is not None
        and folders
        and names.isdisjoint(folders)
        # names that are no folders of the paths were written by hand
        and all(item.classname in Path(item.impath).relative_to(root).parts for item in items)
    ):
        raise ValueError(
            f'"{path}" was drawn as if {shown(sorted(names))} were the classes, but these are '
            f"{shown(sorted(folders))}; delete it to draw another"
        )
    new = there - set(used) - {str(root / picture) for picture in skipped or {}}
    if new:
        logger.warning(
            '%d pictures are not in the split, e.g. "%s"; delete %s to draw anew',
            len(new),
            printable(min(new)),
            path,
        )


def check_readable(path: Path, used: list[str]) -> None:
    """Whether the pictures of a stored split can still be read; they cannot be left out of it any more.

    Raises:
        ValueError: some cannot.
    """
    faults = unreadable(Path(), used)
    if faults:
        picture, why = next(iter(faults.items()))
        raise ValueError(
            f'"{picture}" ({why}) is in the stored split ({len(faults)} of {len(used)} pictures cannot be '
            f'used any more); put it right, or delete "{path}" to draw another split without such pictures'
        )


def read_names(root: Path, folders: set[str]) -> dict[str, str]:
    """The class name of each folder: ``classnames.json`` {folder: name}, or ``classnames.txt``, or its own.

    A line of ``classnames.txt`` is a folder without blanks in its name, a blank, and the class name.

    Raises:
        ValueError: the file names folders that are not there, or one name twice, or is no such file.
    """
    names = {folder: folder for folder in sorted(folders)}
    path = names_file(root)
    if path is None:
        return names
    try:
        if path.suffix == ".json":
            given = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=unique_keys)
        else:
            given = unique_keys(line.split(maxsplit=1) for line in read_lines(path))
        if not all(isinstance(name, str) and not is_blank(name) for name in given.values()):
            raise ValueError("a name is no text")
    except (ValueError, AttributeError, RecursionError) as error:
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

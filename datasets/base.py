"""The CoOp family's few-shot protocol, once for all data sets: split, shots, halves of the classes."""

import json
import logging
import math
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from datasets.few_shot_pickles import stored_shots
from datasets.raw_splits import Split, split_folders
from datasets.splits import FETCH, PARTS, check_split
from fileio.text import unique_keys

logger = logging.getLogger(__name__)

DRAW_SEED = 1  # of splits drawn from raw annotations, whatever the run's seed: all runs have the same test

Images = tuple[list[Datum], list[Datum], list[Datum]]  # of train, val and test


class FewShotDataset(DatasetBase):
    """A data set of the CoOp family; a subclass names its folders and returns its full split.

    Args:
        cfg: reads ``DATASET.ROOT``, ``DATASET.NUM_SHOTS``, ``DATASET.SUBSAMPLE_CLASSES`` and ``SEED``.

    Raises:
        FileNotFoundError: a folder or file of the data set is missing; the message says how to get it.
        ValueError: ``DATASET.SUBSAMPLE_CLASSES`` is not all, base or new, or labels and classes are refused
            (``datasets/splits.py``).
    """

    dataset_dir = ""  # folder of the data set below DATASET.ROOT
    image_dir = ""  # folder of the images below that

    def __init__(self, cfg: CfgNode) -> None:
        root = Path(cfg.DATASET.ROOT).expanduser().absolute()
        self.dataset_dir = existing_folder(root / self.dataset_dir, cfg)
        self.image_dir = existing_folder(self.dataset_dir / self.image_dir, cfg)
        train, val, test = self.read_data()
        if cfg.DATASET.NUM_SHOTS >= 1:
            train, val = self.draw_shots(train, val, cfg.DATASET.NUM_SHOTS, cfg.SEED)
        train, val, test = subsample_classes(train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        if cfg.DATASET.NUM_SHOTS >= 1:
            warn_of_few_images(train, cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=train, val=val, test=test)
        # Dassl knows the classes of train alone; without training, any class can be evaluated
        images = [*train, *val, *test]
        self._num_classes = self.get_num_classes(images)
        self._lab2cname, self._classnames = self.get_lab2cname(images)

    def read_data(self) -> Images:
        """The complete train, val and test lists, before any draw; their classes are checked."""
        raise NotImplementedError

    def draw_shots(
        self, train: list[Datum], val: list[Datum], shots: int, seed: int
    ) -> tuple[list[Datum], list[Datum]]:
        """CoOp's draw: ``shots`` images a class for training, then ``min(shots, 4)`` for validation.

        The draw uses Python's global generator as CoOp's does; seeding it here again makes the shots
        depend on the seed alone, whatever else has drawn numbers before. Another repository's list for
        this seed in the data set's folder is taken instead.
        """
        if seed >= 0:
            random.seed(seed)
        drawn = (
            self.generate_fewshot_dataset(train, num_shots=shots),
            self.generate_fewshot_dataset(val, num_shots=min(shots, 4)),
        )
        if seed < 0:  # other shots in every run
            return drawn
        path = self.dataset_dir / "split_fewshot" / f"shot_{shots}-seed_{seed}.pkl"
        return stored_shots(path, self.image_dir, (train, val), drawn)


class SplitFileDataset(FewShotDataset):
    """A data set whose split is one of CoOp's ``split_zhou_*.json`` files.

    Where that file is missing each run draws the same split from the raw annotations: the one that CoOp's
    loaders draw and keep if their first run has seed 1.
    """

    split_file = ""

    def __init__(self, cfg: CfgNode) -> None:
        self.listing = cfg.DATASET.LISTING
        super().__init__(cfg)

    def read_data(self) -> Images:
        path = self.dataset_dir / self.split_file
        warning = (
            f"{type(self).__name__}: this is not the official split but one drawn from the raw annotations: "
            f"accuracies are not comparable with published ones. For the official one {self.remedy()}"
        )
        if path.is_file():
            return read_split(path, self.image_dir, warning)
        try:
            split = self.draw_split(random.Random(DRAW_SEED))
        except (OSError, ValueError, LookupError, RecursionError) as error:
            raise FileNotFoundError(
                f'split file "{path}" is missing; {self.remedy()} (none can be drawn from the raw '
                f"annotations either: {error})"
            ) from error
        check_split(split, f'the raw annotations of "{self.dataset_dir}"', self.remedy())
        logger.warning(warning)
        return split_images(split, self.image_dir)

    def draw_split(self, rng: random.Random) -> Split:
        """What CoOp's loader of this data set draws from its raw annotations."""
        raise NotImplementedError

    def remedy(self) -> str:
        """How to get the official split file."""
        return f"get it with: {prepare_command(type(self).__name__, self.dataset_dir.parent)}"


class FolderDataset(SplitFileDataset):
    """A data set whose raw annotations are its class folders."""

    ignored: tuple[str, ...] = ()  # folders that are no classes
    renames: Mapping[str, str] = {}  # folder: class name, where they differ

    def draw_split(self, rng: random.Random) -> Split:
        return split_folders(self.image_dir, rng, self.listing, ignored=self.ignored, renames=self.renames)


def prepare_command(name: str, root: Path) -> str:
    """The command that fetches what is missing of the data set ``name`` below ``root``."""
    return f'python -m datasets.prepare {name} --root "{root}"'


def existing_folder(folder: Path, cfg: CfgNode) -> Path:
    """``folder`` itself, or an error that says where it was looked for and how the layout should be."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f'data set {cfg.DATASET.NAME}: folder "{folder}" is missing (data root "{cfg.DATASET.ROOT}", '
            "from --root or DATA=); point to the right root, or fetch it: docs/DATASETS.md"
        )
    return folder


def read_split(path: Path, image_dir: Path, warning: str = "", remedy: str = FETCH) -> Images:
    """Reads a ``split_zhou_*.json``: lists of ``[path below image_dir, label, class name]``, order kept.

    Args:
        path: of the file.
        image_dir: the images' folder.
        warning: logged if the file says that it is not the official one.
        remedy: what to do about a file that is refused.

    Raises:
        ValueError: the file is not such a split, or its entries or classes are refused.
    """
    logger.info("Reading split from %s", path)
    try:
        split = json.loads(path.read_text("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f'"{path}" is not a split file ({reason}); {remedy}') from error
    check_split(split, f'"{path}"', remedy)
    if "note" in split and warning:
        logger.warning(warning)
    return split_images(split, image_dir)


def split_images(split: Mapping[str, Any], image_dir: Path) -> Images:
    """The images of the lists of a checked split."""
    return tuple(
        [
            Datum(impath=str(image_dir / path), label=int(label), classname=name)
            for path, label, name in split[part]
        ]
        for part in PARTS
    )


def warn_of_few_images(train: list[Datum], shots: int) -> None:
    """One line where classes have fewer than ``shots`` training images; they give what they have."""
    numbers = Counter(item.label for item in train)
    few = [label for label, number in numbers.items() if number < shots]
    if few:
        least = min(few, key=numbers.get)
        name = next(item.classname for item in train if item.label == least)
        logger.warning(
            'DATASET.NUM_SHOTS is %d, but %d of %d classes have fewer training images, "%s" only %d: all of '
            "theirs are taken",
            *(shots, len(few), len(numbers), name, numbers[least]),
        )


def subsample_classes(*parts: list[Datum], subsample: str) -> tuple[list[Datum], ...]:
    """The base or novel half of the classes, relabelled from 0 (base: the first ceil(n/2) sorted labels).

    Args:
        parts: lists of one data set.
        subsample: ``all`` keeps everything, ``base`` and ``new`` take a half.

    Raises:
        ValueError: there is no such half, or it has one class alone.
    """
    if subsample == "all":
        return parts
    if subsample not in ("base", "new"):
        raise ValueError(f'DATASET.SUBSAMPLE_CLASSES is "{subsample}"; set it to all, base or new')
    logger.info("SUBSAMPLE %s CLASSES!", subsample.upper())
    labels = sorted({item.label for part in parts for item in part})
    half = math.ceil(len(labels) / 2)
    chosen = labels[:half] if subsample == "base" else labels[half:]
    if len(chosen) < 2:
        raise ValueError(
            f"DATASET.SUBSAMPLE_CLASSES {subsample} leaves {len(chosen)} of {len(labels)} classes, so every "
            "answer would be right; halves take four classes or more"
        )
    relabelled = {label: new for new, label in enumerate(chosen)}
    return tuple(
        [
            Datum(
                impath=item.impath,
                label=relabelled[item.label],
                domain=item.domain,
                classname=item.classname,
            )
            for item in part
            if item.label in relabelled
        ]
        for part in parts
    )

"""The CoOp family's few-shot protocol, once for all data sets: split, shots, halves of the classes."""

import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json
from datasets import storage
from datasets.few_shot_cache import kept_shots
from datasets.raw_splits import Split, split_folders

logger = logging.getLogger(__name__)


class FewShotDataset(DatasetBase):
    """A data set of the CoOp family; a subclass names its folders and returns its full split.

    Args:
        cfg: reads ``DATASET.ROOT``, ``DATASET.NUM_SHOTS``, ``DATASET.SUBSAMPLE_CLASSES`` and ``SEED``.

    Raises:
        FileNotFoundError: a folder or file of the data set is missing; the message says how to get it.
        ValueError: ``DATASET.SUBSAMPLE_CLASSES`` is not all, base or new.
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
        super().__init__(train_x=train, val=val, test=test)

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        """The complete train, val and test lists, before any draw."""
        raise NotImplementedError

    def draw_shots(
        self, train: list[Datum], val: list[Datum], shots: int, seed: int
    ) -> tuple[list[Datum], list[Datum]]:
        """CoOp's draw: ``shots`` images a class for training, then ``min(shots, 4)`` for validation.

        The draw uses Python's global generator as CoOp's does; seeding it here again makes the shots
        depend on the seed alone, whatever else has drawn numbers before. A list that is stored for this
        seed in the data set's folder is taken instead.
        """
        if seed >= 0:
            random.seed(seed)
        drawn = (
            self.generate_fewshot_dataset(train, num_shots=shots),
            self.generate_fewshot_dataset(val, num_shots=min(shots, 4)),
        )
        if seed < 0:  # other shots in every run
            return drawn
        stem = self.dataset_dir / "split_fewshot" / f"shot_{shots}-seed_{seed}"
        return kept_shots(stem, self.image_dir, (train, val), drawn)


class SplitFileDataset(FewShotDataset):
    """A data set whose split is one of CoOp's ``split_zhou_*.json`` files.

    Where that file is missing a split is drawn from the raw annotations, as CoOp's loaders do, and kept.
    """

    split_file = ""

    def __init__(self, cfg: CfgNode) -> None:
        self.seed = cfg.SEED
        self.listing = cfg.DATASET.LISTING
        super().__init__(cfg)

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        path = storage.find(self.dataset_dir, self.split_file)
        if path is None:
            split = self.raw_split(f"drawn from the raw annotations with seed {self.seed}; not the official")
            path = storage.keep(split, self.dataset_dir, self.split_file)
            if path is None:
                logger.warning(self.not_official(f"drawn with seed {self.seed} for this run alone"))
                return split_images(split, self.image_dir)
        return read_split(path, self.image_dir, self.not_official(f'the one in "{path}" was drawn'))

    def raw_split(self, note: str) -> dict[str, Any]:
        """A split drawn from the raw annotations, with a note that says so.

        Raises:
            FileNotFoundError: they are missing or cannot be read.
        """
        rng = random.Random(self.seed if self.seed >= 0 else None)
        try:
            return {**self.draw_split(rng), "note": note}
        except (OSError, ValueError, LookupError) as error:
            raise FileNotFoundError(
                f'split file "{self.dataset_dir / self.split_file}" is missing; {self.remedy()} '
                f"(none can be drawn from the raw annotations either: {error})"
            ) from error

    def draw_split(self, rng: random.Random) -> Split:
        """What CoOp's loader of this data set draws from its raw annotations."""
        raise NotImplementedError

    def not_official(self, which: str) -> str:
        """The warning that goes with a split of our own."""
        return (
            f"{type(self).__name__}: this is not the official split but {which} from the raw annotations: "
            f"accuracies are not comparable with published ones. For the official one {self.remedy()}"
        )

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


def read_split(
    path: Path, image_dir: Path, warning: str = ""
) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Reads a ``split_zhou_*.json``: lists of ``[path below image_dir, label, class name]``, order kept.

    Args:
        path: of the file.
        image_dir: the images' folder.
        warning: logged if the file says that it is not the official one.

    Raises:
        ValueError: the file is not such a split.
    """
    logger.info("Reading split from %s", path)
    try:
        split = read_json(path)
        if "note" in split and warning:
            logger.warning(warning)
        return split_images(split, image_dir)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f'"{path}" is not a split file (a JSON object of train, val and test lists of '
            f"[path, label, class name]): {error!r}; fetch it again"
        ) from error


def split_images(split: Mapping[str, Any], image_dir: Path) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """The images of a split's train, val and test lists."""
    return tuple(
        [
            Datum(impath=str(image_dir / impath), label=int(label), classname=classname)
            for impath, label, classname in split[part]
        ]
        for part in ("train", "val", "test")
    )


def subsample_classes(*parts: list[Datum], subsample: str) -> tuple[list[Datum], ...]:
    """The base or novel half of the classes, relabelled from 0 (base: the first ceil(n/2) sorted labels).

    Args:
        parts: lists of one data set; the labels are those of the first list (train).
        subsample: ``all`` keeps everything, ``base`` and ``new`` take a half.
    """
    if subsample == "all":
        return parts
    if subsample not in ("base", "new"):
        raise ValueError(f'DATASET.SUBSAMPLE_CLASSES is "{subsample}"; set it to all, base or new')
    logger.info("SUBSAMPLE %s CLASSES!", subsample.upper())
    labels = sorted({item.label for item in parts[0]})
    half = math.ceil(len(labels) / 2)
    chosen = labels[:half] if subsample == "base" else labels[half:]
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

"""The CoOp family's few-shot protocol, once for all data sets: split, shots, halves of the classes."""

import logging
import math
import random
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json

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
        depend on the seed alone, whatever else has drawn numbers before.
        """
        if seed >= 0:
            random.seed(seed)
        train = self.generate_fewshot_dataset(train, num_shots=shots)
        val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
        return train, val


class SplitFileDataset(FewShotDataset):
    """A data set whose split is one of CoOp's ``split_zhou_*.json`` files."""

    split_file = ""
    split_drive_id = ""  # Google Drive id of the split file, from CoOp's DATASETS.md

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        path = self.dataset_dir / self.split_file
        if not path.is_file():
            raise FileNotFoundError(
                f'split file "{path}" is missing; get it with: gdown {self.split_drive_id} -O "{path}"'
            )
        return read_split(path, self.image_dir)


def existing_folder(folder: Path, cfg: CfgNode) -> Path:
    """``folder`` itself, or an error that says where it was looked for and how the layout should be."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f'data set {cfg.DATASET.NAME}: folder "{folder}" is missing (data root "{cfg.DATASET.ROOT}", '
            "from --root or DATA=); lay the data out as CoOp's DATASETS.md says or point to the right root"
        )
    return folder


def read_split(path: Path, image_dir: Path) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Reads a ``split_zhou_*.json``: lists of ``[path below image_dir, label, class name]``, order kept.

    Raises:
        ValueError: the file is not such a split.
    """
    logger.info("Reading split from %s", path)
    try:
        split = read_json(path)
        return tuple(
            [
                Datum(impath=str(image_dir / impath), label=int(label), classname=classname)
                for impath, label, classname in split[part]
            ]
            for part in ("train", "val", "test")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'"{path}" is not a split file (a JSON object of train, val and test lists of '
            f"[path, label, class name]): {error!r}; fetch it again"
        ) from error


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

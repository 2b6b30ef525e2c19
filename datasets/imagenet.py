"""ImageNet (1,000 classes) in CoOp's layout, and what its variants share with it."""

import logging
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from datasets.base import FewShotDataset, Images, existing_folder, prepare_command
from datasets.raw_splits import visible_files, visible_folders
from datasets.splits import check_classes
from fileio.text import unique_keys

logger = logging.getLogger(__name__)

SHOWN = 5  # class folders that an error names


@DATASET_REGISTRY.register()
class ImageNet(FewShotDataset):
    """``imagenet/images/{train,val}/<wnid>/`` with ``imagenet/classnames.txt``; val serves as val and test.

    The label of a class is the position of its folder in sorted order. Files are in sorted order too, so the
    same seed draws the same shots on every machine; ``DATASET.LISTING`` unsorted takes the file
    system's order, as CoOp does.
    """

    dataset_dir = "imagenet"
    image_dir = "images"

    def __init__(self, cfg: CfgNode) -> None:
        self.listing = cfg.DATASET.LISTING
        super().__init__(cfg)

    def read_data(self) -> Images:
        names = read_classnames(self.dataset_dir / "classnames.txt")
        folders = self.image_dir / "train", self.image_dir / "val"
        files = [class_files(folder, self.listing) for folder in folders]
        train, test = (
            labelled_by_folder(folder, found, names) for folder, found in zip(folders, files, strict=True)
        )
        self.check_same_classes(*files)
        check_folders(self.image_dir, test)
        return train, test, test

    def check_same_classes(self, train: dict[str, list[str]], val: dict[str, list[str]]) -> None:
        """Whether a label, the position of a folder, means the same class in train and val.

        Raises:
            ValueError: a class has no images in one of them.
        """
        for part, found in (("train", train), ("val", val)):
            lacking = sorted(wnid for wnid in train.keys() | val.keys() if not found.get(wnid))
            if lacking:
                raise ValueError(
                    f'"{self.image_dir / part}" has no images of {len(lacking)} of the classes in train and '
                    f"val ({', '.join(lacking[:SHOWN])}{', …' if len(lacking) > SHOWN else ''}), so that "
                    "labels would not fit; complete it, or remove these classes' folders from both"
                )

    def draw_shots(
        self, train: list[Datum], val: list[Datum], shots: int, seed: int
    ) -> tuple[list[Datum], list[Datum]]:
        """Draws from train alone: the validation images are the test images and stay whole."""
        train, _ = super().draw_shots(train, [], shots, seed)
        return train, val


class ImageNetVariant(DatasetBase):
    """A test set for models trained on ImageNet; a subclass names its folders.

    As in CoOp all its images are test and "training" images alike, which tells a trainer the classes, and
    neither shots nor halves of the classes are taken.
    """

    dataset_dir = ""
    image_dir = ""

    def __init__(self, cfg: CfgNode) -> None:
        self.dataset_dir = existing_folder(
            Path(cfg.DATASET.ROOT).expanduser().absolute() / self.dataset_dir, cfg
        )
        self.image_dir = existing_folder(self.dataset_dir / self.image_dir, cfg)
        names = read_classnames(self.dataset_dir / "classnames.txt")
        images = self.label(class_files(self.image_dir, "sorted"), names)
        check_folders(self.image_dir, images)
        logger.info(
            "%s is a test set: all its images and classes are tested, and training would see them",
            cfg.DATASET.NAME,
        )
        super().__init__(train_x=images, test=images)

    def label(self, files: dict[str, list[str]], names: dict[str, str]) -> list[Datum]:
        """Files by class folder → images; the label is the position of the folder."""
        return labelled_by_folder(self.image_dir, files, names)


def read_classnames(path: Path) -> dict[str, str]:
    """Reads ``classnames.txt``: a line is a folder (wnid), a space and the class name.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: a folder has two lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'"{path}" is missing (each ImageNet variant needs a copy of ImageNet\'s); '
            f"get it with: {prepare_command('ImageNet', path.parent.parent)}"
        )
    lines = (line.strip().split(" ", 1) for line in path.read_text(encoding="utf-8-sig").splitlines())
    try:
        return unique_keys(line for line in lines if len(line) == 2)
    except ValueError as error:
        raise ValueError(f'"{path}": folder {error}') from error


def class_files(folder: Path, listing: str) -> dict[str, list[str]]:
    """The files of each class folder in ``folder``, folders in sorted order; no file is opened.

    Args:
        folder: holds the class folders.
        listing: ``sorted``, or ``unsorted`` for the file system's order of the files.

    Raises:
        FileNotFoundError: there are no class folders.
        ValueError: no such listing.
    """
    folders = visible_folders(folder) if folder.is_dir() else []
    if not folders:
        raise FileNotFoundError(
            f'"{folder}" has no class folders (n01440764, …); sort the images into one folder a class'
        )
    return {wnid: visible_files(folder / wnid, listing) for wnid in folders}


def labelled_by_folder(folder: Path, files: dict[str, list[str]], names: dict[str, str]) -> list[Datum]:
    """Files by class folder → images, class after class; the label is the position of the folder.

    Raises:
        ValueError: a class folder is not in ``classnames.txt``.
    """
    unknown = [wnid for wnid in files if wnid not in names]
    if unknown:
        raise ValueError(
            f'"{folder}" holds {len(unknown)} folders that classnames.txt does not name, e.g. "{unknown[0]}"'
        )
    return [
        Datum(impath=f"{folder}/{wnid}/{file}", label=label, classname=names[wnid])
        for label, wnid in enumerate(files)
        for file in files[wnid]
    ]


def check_folders(folder: Path, images: list[Datum]) -> None:
    """Checks that no class folder is empty, which would leave a gap in the labels.

    Raises:
        ValueError: one is.
    """
    test = ((item.impath, item.label, item.classname) for item in images)
    check_classes(
        {"train": (), "val": (), "test": test},
        f'"{folder}"',
        "complete the class folders, or remove empty ones",
        unique_names=False,
    )

"""ImageNet (1,000 classes) in CoOp's layout."""

import os
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import FewShotDataset


@DATASET_REGISTRY.register()
class ImageNet(FewShotDataset):
    """``imagenet/images/{train,val}/<wnid>/`` with ``imagenet/classnames.txt``; val serves as val and test.

    The label of a class is the position of its folder in sorted order. Files are listed in sorted order too,
    so the same seed draws the same shots on every machine (CoOp takes the order of the file system).
    """

    dataset_dir = "imagenet"
    image_dir = "images"

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        names = read_classnames(self.dataset_dir / "classnames.txt")
        train = list_images(self.image_dir / "train", names)
        test = list_images(self.image_dir / "val", names)
        return train, test, test

    def draw_shots(
        self, train: list[Datum], val: list[Datum], shots: int, seed: int
    ) -> tuple[list[Datum], list[Datum]]:
        """Draws from train alone: the validation images are the test images and stay whole."""
        train, _ = super().draw_shots(train, [], shots, seed)
        return train, val


def read_classnames(path: Path) -> dict[str, str]:
    """Reads ``classnames.txt``: a line is a folder (wnid), a space and the class name."""
    if not path.is_file():
        raise FileNotFoundError(
            f'"{path}" is missing; get it with: gdown 1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF -O "{path}"'
        )
    lines = (line.strip().split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def list_images(folder: Path, names: dict[str, str]) -> list[Datum]:
    """All files of ``folder/<wnid>/``, class after class; labels are positions of the sorted class folders.

    Raises:
        FileNotFoundError: the folder has no class folders (a val folder that was not sorted into classes).
        ValueError: a class folder is not in ``classnames.txt``.
    """
    wnids = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
    if not wnids:
        raise FileNotFoundError(
            f'"{folder}" has no class folders (n01440764, …); sort the images into one folder a class'
        )
    unknown = [wnid for wnid in wnids if wnid not in names]
    if unknown:
        raise ValueError(
            f'"{folder}" holds {len(unknown)} folders that classnames.txt does not name, e.g. "{unknown[0]}"'
        )
    return [
        Datum(impath=str(folder / wnid / file), label=label, classname=names[wnid])
        for label, wnid in enumerate(wnids)
        for file in sorted(os.listdir(folder / wnid))
        if not file.startswith(".")
    ]

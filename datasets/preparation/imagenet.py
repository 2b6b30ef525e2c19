"""ImageNet's own archives, which need more than unpacking: a tar of tars, images without class folders."""

import csv
import logging
import os
import shutil
import tarfile
from pathlib import Path

from datasets.preparation.sources import File
from datasets.preparation.unpack import MAX_RATIO, Member, check_name, complaints, untar
from fileio.errors import Damaged, Unavailable
from fileio.progress import Progress

logger = logging.getLogger(__name__)
# Line i is the wnid of ILSVRC2012_val_<i>.JPEG.
LABELS = File(
    "imagenet_2012_validation_synset_labels.txt",
    (
        "https://raw.githubusercontent.com/tensorflow/models/c80d1b17d5f835e6f2cdeddefeb16c193beed071"
        "/research/slim/datasets/imagenet_2012_validation_synset_labels.txt",
    ),
)
KAGGLE = "LOC_val_solution.csv"  # says the same, in the copy of ImageNet on Kaggle
IMAGES = 50000


def unpack_train(archive: Path, target: Path) -> None:
    """Unpacks ``ILSVRC2012_img_train.tar``, a tar of one tar a class, to ``target/<wnid>/``.

    Each class appears at once; classes that an earlier call unpacked are not unpacked again.

    Raises:
        Damaged: the archive is cut or holds something else.
    """
    target.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with (
        complaints(archive.name, target),
        tarfile.open(archive, tarinfo=Member) as file,
        Progress(archive.name) as bar,
    ):
        for member in file:
            wnid, _, suffix = member.name.partition(".")
            if not member.isfile() or suffix != "tar":
                raise Damaged(f'"{member.name}" is not the tar of a class')
            check_name(wnid)
            folder = target / wnid
            if folder.exists():
                continue
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            untar(file.extractfile(member), partial, MAX_RATIO * member.size, bar)
            partial.rename(folder)


def sort_validation(folder: Path, wnids: dict[str, str]) -> None:
    """Moves the images that lie in ``folder`` into ``folder/<wnid>/``.

    Args:
        folder: holds ``ILSVRC2012_val_*.JPEG``; some may be sorted already.
        wnids: class folder of each file name.

    Raises:
        Damaged: an image has no known class.
    """
    loose = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != ".")
    unknown = [name for name in loose if name not in wnids]
    if unknown:
        raise Damaged(f'{len(unknown)} images in "{folder}" have no known class, e.g. "{unknown[0]}"')
    for name in loose:
        (folder / wnids[name]).mkdir(exist_ok=True)
        os.rename(folder / name, folder / wnids[name] / name)
    logger.info("%d validation images sorted into their classes", len(loose))


def is_flat(folder: Path) -> bool:
    """Whether validation images lie in a folder without class folders."""
    return folder.is_dir() and any(name.startswith("ILSVRC2012_val_") for name in os.listdir(folder))


def read_wnids(path: Path, count: int = IMAGES) -> dict[str, str]:
    """Class folder of each validation image, from TensorFlow's list of labels or Kaggle's table.

    Raises:
        Unavailable: the file is neither, or names another number of images.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.name == KAGGLE:
        rows = csv.DictReader(text.splitlines())
        wnids = {
            f"{row.get('ImageId')}.JPEG": (row.get("PredictionString") or "").partition(" ")[0]
            for row in rows
        }
    else:
        wnids = {
            f"ILSVRC2012_val_{number:08d}.JPEG": line.strip() for number, line in enumerate(text.split(), 1)
        }
    if len(wnids) != count or not all(
        len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in wnids.values()
    ):
        raise Unavailable(f"{path.name} does not name the classes of {count:,} validation images")
    return wnids

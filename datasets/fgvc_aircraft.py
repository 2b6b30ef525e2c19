"""FGVC-Aircraft (100 variants) in CoOp's layout."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import FewShotDataset, Images, split_images
from datasets.raw_splits import Item, read_lines
from datasets.splits import PARTS, check_split


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    """``fgvc_aircraft/images`` with the official lists of the archive's ``data`` folder: no split file."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"

    def read_data(self) -> Images:
        labels = {name: label for label, name in enumerate(read_lines(self.listed("variants.txt")))}
        split = {part: self.read_list(self.listed(f"images_variant_{part}.txt"), labels) for part in PARTS}
        check_split(split, f'the lists of "{self.dataset_dir}"', "unpack the archive again")
        return split_images(split, self.image_dir)

    def read_list(self, path: Path, labels: dict[str, int]) -> list[Item]:
        """Lines of image number, blank, variant; labels are the variants' places in ``variants.txt``."""
        images = []
        for line in read_lines(path):
            image, _, name = line.partition(" ")
            if name not in labels:
                raise ValueError(f'"{path}": variants.txt has no variant "{name}"; unpack the archive again')
            images.append((f"{image}.jpg", labels[name], name))
        return images

    def listed(self, name: str) -> Path:
        """Path of one of the archive's lists.

        Raises:
            FileNotFoundError: it is missing.
        """
        path = self.dataset_dir / name
        if not path.is_file():
            raise FileNotFoundError(
                f'"{path}" is missing; the folder is the archive fgvc-aircraft-2013b\'s folder data, renamed'
            )
        return path

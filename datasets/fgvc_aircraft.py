"""FGVC-Aircraft (100 variants) in CoOp's layout."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import FewShotDataset
from datasets.raw_splits import read_lines


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    """``fgvc_aircraft/images`` with the official lists of the archive's ``data`` folder: no split file."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"

    def read_data(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        labels = {name: label for label, name in enumerate(read_lines(self.listed("variants.txt")))}
        parts = ("train", "val", "test")
        return tuple(self.read_list(self.listed(f"images_variant_{part}.txt"), labels) for part in parts)

    def read_list(self, path: Path, labels: dict[str, int]) -> list[Datum]:
        """Lines of image number, blank, variant; labels are the variants' places in ``variants.txt``."""
        images = []
        for line in read_lines(path):
            image, _, name = line.partition(" ")
            if name not in labels:
                raise ValueError(f'"{path}": variants.txt has no variant "{name}"; unpack the archive again')
            images.append(Datum(impath=f"{self.image_dir}/{image}.jpg", label=labels[name], classname=name))
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

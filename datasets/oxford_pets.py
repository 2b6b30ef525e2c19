"""Oxford-IIIT Pets (37 classes) in CoOp's layout."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset
from datasets.raw_splits import Item, Split, read_lines, split_trainval


@DATASET_REGISTRY.register()
class OxfordPets(SplitFileDataset):
    """``oxford_pets/images`` with ``split_zhou_OxfordPets.json``."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"

    def draw_split(self, rng: random.Random) -> Split:
        return split_trainval(self.annotated("trainval.txt"), self.annotated("test.txt"), rng)

    def annotated(self, name: str) -> list[Item]:
        """Lines of image, class from 1, and two numbers more; the image is called ``<Breed>_<number>``."""
        rows = [line.split(" ") for line in read_lines(self.dataset_dir / "annotations" / name)]
        return [(f"{row[0]}.jpg", int(row[1]) - 1, row[0].rpartition("_")[0].lower()) for row in rows]

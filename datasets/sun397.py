"""SUN397 (397 classes) in CoOp's layout."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset
from datasets.raw_splits import Item, Split, read_lines, split_trainval


@DATASET_REGISTRY.register()
class SUN397(SplitFileDataset):
    """``sun397/SUN397`` with ``split_zhou_SUN397.json``."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"

    def draw_split(self, rng: random.Random) -> Split:
        folders = read_lines(self.dataset_dir / "ClassName.txt")
        labels = {folder: label for label, folder in enumerate(folders)}
        return split_trainval(
            self.annotated("Training_01.txt", labels), self.annotated("Testing_01.txt", labels), rng
        )

    def annotated(self, name: str, labels: dict[str, int]) -> list[Item]:
        """Lines are paths; ``/a/apartment_building/outdoor/<file>`` shows "outdoor apartment_building"."""
        items = []
        for line in read_lines(self.dataset_dir / name):
            folder = line.rpartition("/")[0]
            words = folder.split("/")[2:]  # without the letter
            items.append((line.lstrip("/"), labels[folder], " ".join(reversed(words))))
        return items

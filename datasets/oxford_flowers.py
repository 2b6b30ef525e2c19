"""Oxford Flowers 102 (102 classes) in CoOp's layout."""

import json
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset
from datasets.raw_splits import Split, read_mat, split_labelled


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitFileDataset):
    """``oxford_flowers/jpg`` with ``split_zhou_OxfordFlowers.json``."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"

    def draw_split(self, rng: random.Random) -> Split:
        """``imagelabels.mat`` has the class, from 1, of each image; its name is in ``cat_to_name.json``."""
        names = json.loads((self.dataset_dir / "cat_to_name.json").read_text(encoding="utf-8"))
        labels = [int(label) for label in read_mat(self.dataset_dir / "imagelabels.mat")["labels"].flat]
        images = [
            (f"image_{number:05d}.jpg", label - 1, names[str(label)])
            for number, label in enumerate(labels, start=1)
        ]
        return split_labelled(images, rng)

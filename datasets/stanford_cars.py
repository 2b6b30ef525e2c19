"""Stanford Cars (196 classes) in CoOp's layout."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset
from datasets.raw_splits import Item, Split, read_mat, split_trainval


@DATASET_REGISTRY.register()
class StanfordCars(SplitFileDataset):
    """``stanford_cars`` (paths in the split start there) with ``split_zhou_StanfordCars.json``."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"

    def draw_split(self, rng: random.Random) -> Split:
        devkit = self.dataset_dir / "devkit"
        names = [str(name.item()) for name in read_mat(devkit / "cars_meta.mat")["class_names"].flat]
        trainval = annotated(devkit / "cars_train_annos.mat", "cars_train", names)
        test = annotated(self.dataset_dir / "cars_test_annos_withlabels.mat", "cars_test", names)
        return split_trainval(trainval, test, rng)


def annotated(path: Path, folder: str, names: list[str]) -> list[Item]:
    """Images of one part; "AM General Hummer SUV 2000" becomes "2000 AM General Hummer SUV"."""
    items = []
    for row in read_mat(path)["annotations"].flat:
        label = int(row["class"].item()) - 1
        model, _, year = names[label].rpartition(" ")
        items.append((f"{folder}/{row['fname'].item()}", label, f"{year} {model}"))
    return items

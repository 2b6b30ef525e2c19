"""Food-101 (101 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import FolderDataset


@DATASET_REGISTRY.register()
class Food101(FolderDataset):
    """``food-101/images`` with ``split_zhou_Food101.json``."""

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"

"""Oxford Flowers 102 (102 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitFileDataset):
    """``oxford_flowers/jpg`` with ``split_zhou_OxfordFlowers.json``."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    split_drive_id = "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"

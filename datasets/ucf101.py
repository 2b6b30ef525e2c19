"""UCF101 (middle frames) (101 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class UCF101(SplitFileDataset):
    """``ucf101/UCF-101-midframes`` with ``split_zhou_UCF101.json``."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    split_drive_id = "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"

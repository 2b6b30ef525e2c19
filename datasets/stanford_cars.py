"""Stanford Cars (196 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class StanfordCars(SplitFileDataset):
    """``stanford_cars`` (paths in the split start there) with ``split_zhou_StanfordCars.json``."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    split_drive_id = "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"

"""SUN397 (397 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class SUN397(SplitFileDataset):
    """``sun397/SUN397`` with ``split_zhou_SUN397.json``."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    split_drive_id = "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"

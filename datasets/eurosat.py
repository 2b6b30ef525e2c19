"""EuroSAT (10 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class EuroSAT(SplitFileDataset):
    """``eurosat/2750`` with ``split_zhou_EuroSAT.json``."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    split_drive_id = "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"

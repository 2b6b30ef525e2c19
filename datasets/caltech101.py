"""Caltech101 (100 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import FolderDataset


@DATASET_REGISTRY.register()
class Caltech101(FolderDataset):
    """``caltech-101/101_ObjectCategories`` with ``split_zhou_Caltech101.json``."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    ignored = ("BACKGROUND_Google", "Faces_easy")
    renames = {
        "airplanes": "airplane",
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
    }

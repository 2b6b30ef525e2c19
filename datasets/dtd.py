"""Describable Textures (47 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import FolderDataset


@DATASET_REGISTRY.register()
class DescribableTextures(FolderDataset):
    """``dtd/images`` with ``split_zhou_DescribableTextures.json``."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"

"""EuroSAT (10 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import FolderDataset


@DATASET_REGISTRY.register()
class EuroSAT(FolderDataset):
    """``eurosat/2750`` with ``split_zhou_EuroSAT.json``."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    renames = {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    }

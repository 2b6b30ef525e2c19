"""Oxford-IIIT Pets (37 classes) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class OxfordPets(SplitFileDataset):
    """``oxford_pets/images`` with ``split_zhou_OxfordPets.json``."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    split_drive_id = "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"

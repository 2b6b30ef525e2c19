"""ImageNet-Sketch (1,000 classes, test only) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """``imagenet-sketch/images/<wnid>/``."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"

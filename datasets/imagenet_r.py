"""ImageNet-R (200 of ImageNet's classes, test only) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """``imagenet-rendition/imagenet-r/<wnid>/``: labels 0 to 199, told apart among themselves."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"

"""ImageNet-A (200 of ImageNet's classes, test only) in CoOp's layout."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """``imagenet-adversarial/imagenet-a/<wnid>/``: labels 0 to 199, told apart among themselves."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"

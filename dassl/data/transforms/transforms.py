"""The transforms that ``INPUT.TRANSFORMS`` may name, in one fixed order."""

import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from PIL.Image import Image
from torchvision import transforms as T
from torchvision.transforms.functional import InterpolationMode
from yacs.config import CfgNode

from dassl.config.defaults import ORIGINAL, check_fixed
from dassl.utils import check_availability

logger = logging.getLogger(__name__)

AVAI_CHOICES = (
    "random_flip",
    "random_resized_crop",
    "random_translation",
    "normalize",
    "center_crop",  # accepted and without effect, as in Dassl: the test transform always crops
)

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class Random2DTranslation:
    """With probability ``p`` enlarges the image by an eighth and crops it at random, else only resizes it.

    Args:
        size: height and width of the result.
        p: probability.
        interpolation: how to resize.
    """

    def __init__(
        self,
        size: Sequence[int],
        p: float = 0.5,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        self.p = p
        self.resize = T.Resize(size, interpolation=interpolation)
        enlarged = [round(side * 1.125) for side in size]
        self.shift = T.Compose([T.Resize(enlarged, interpolation=interpolation), T.RandomCrop(size)])

    def __call__(self, img: Image) -> Image:
        return self.shift(img) if random.random() < self.p else self.resize(img)


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """What ``INPUT.INTERPOLATION`` names."""
    name = cfg.INPUT.INTERPOLATION
    check_availability(name, INTERPOLATION_MODES, "INPUT.INTERPOLATION")
    return INTERPOLATION_MODES[name]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Image], Any]:
    """The transform of training or test images.

    Args:
        cfg: reads the node ``INPUT``.
        is_train: whether the transform is for training.
        choices: names of transforms; default ``INPUT.TRANSFORMS``.
    """
    check_fixed(cfg.INPUT, "INPUT.")
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "a name in INPUT.TRANSFORMS", ORIGINAL)
    build = _build_transform_train if is_train else _build_transform_test
    return build(cfg.INPUT, set(choices), interpolation_mode(cfg))


def _build_transform_train(inp: CfgNode, choices: set[str], interp: InterpolationMode) -> T.Compose:
    logger.info("Building transform_train")
    size = tuple(inp.SIZE)
    tfms = []

    def add(text: str, tfm: Callable[[Any], Any]) -> None:
        logger.info("+ %s", text)
        tfms.append(tfm)

    if "random_resized_crop" not in choices:
        add(f"resize to {size[0]}x{size[1]}", T.Resize(size, interpolation=interp))
    if "random_translation" in choices:
        add("random translation", Random2DTranslation(size, interpolation=interp))
    if "random_resized_crop" in choices:
        scale = tuple(inp.RRCROP_SCALE)
        tfm = T.RandomResizedCrop(size, scale=scale, interpolation=interp)
        add(f"random resized crop (size={size}, scale={scale})", tfm)
    if "random_flip" in choices:
        add("random flip", T.RandomHorizontalFlip())
    add("to torch tensor of range [0, 1]", T.ToTensor())
    if "normalize" in choices:
        add(_normalization(inp), normalize(inp))
    return T.Compose(tfms)


def _build_transform_test(inp: CfgNode, choices: set[str], interp: InterpolationMode) -> T.Compose:
    logger.info("Building transform_test")
    size = tuple(inp.SIZE)
    logger.info("+ resize the smaller edge to %d", max(size))
    logger.info("+ %dx%d center crop", *size)
    logger.info("+ to torch tensor of range [0, 1]")
    tfms = [T.Resize(max(size), interpolation=interp), T.CenterCrop(size), T.ToTensor()]
    if "normalize" in choices:
        logger.info("+ %s", _normalization(inp))
        tfms.append(normalize(inp))
    return T.Compose(tfms)


def normalize(inp: CfgNode) -> T.Normalize:
    """The normalisation by ``INPUT.PIXEL_MEAN`` and ``INPUT.PIXEL_STD``.

    Raises:
        ValueError: they are not three finite numbers each, or a standard deviation is not above 0.
    """
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        values = inp[key]
        good = len(values) == 3 and all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if not good or (key == "PIXEL_STD" and min(values) <= 0):
            above = " above 0" * (key == "PIXEL_STD")
            raise ValueError(
                f"INPUT.{key} is {values}; set it to three numbers{above}, for red, green and blue"
            )
    return T.Normalize(inp.PIXEL_MEAN, inp.PIXEL_STD)


def _normalization(inp: CfgNode) -> str:
    return f"normalization (mean={inp.PIXEL_MEAN}, std={inp.PIXEL_STD})"

"""The transforms that ``INPUT.TRANSFORMS`` may name, in one fixed order."""

import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms.functional import InterpolationMode
from yacs.config import CfgNode

from dassl.utils import check_availability

logger = logging.getLogger(__name__)

AVAI_CHOICES = (
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",  # accepted and without effect, as in Dassl: the test transform always crops
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
)
UNSUPPORTED = ("randaugment_fixmatch", "randaugment2")

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


class Cutout:
    """Zeroes ``n_holes`` squares of side ``length`` at random places of an image tensor (C, H, W)."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img: Tensor) -> Tensor:
        img = img.clone()
        height, width = img.shape[1:]
        for _ in range(self.n_holes):
            top = int(torch.randint(height, ())) - self.length // 2
            left = int(torch.randint(width, ())) - self.length // 2
            img[:, max(top, 0) : max(top + self.length, 0), max(left, 0) : max(left + self.length, 0)] = 0
        return img


class GaussianNoise:
    """With probability ``p`` adds noise of the given mean and standard deviation to an image tensor."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, img: Tensor) -> Tensor:
        if random.random() >= self.p:
            return img
        return img + torch.randn_like(img) * self.std + self.mean


class InstanceNormalization:
    """Brings each channel of an image tensor (C, H, W) to mean 0 and standard deviation 1."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, img: Tensor) -> Tensor:
        mean = img.mean(dim=(1, 2), keepdim=True)
        return (img - mean) / (img.std(dim=(1, 2), keepdim=True) + self.eps)


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """What ``INPUT.INTERPOLATION`` names."""
    name = cfg.INPUT.INTERPOLATION
    check_availability(name, INTERPOLATION_MODES, "INPUT.INTERPOLATION")
    return INTERPOLATION_MODES[name]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Image], Any] | None:
    """The transform of training or test images; None if ``INPUT.NO_TRANSFORM``.

    Args:
        cfg: reads the node ``INPUT``.
        is_train: whether the transform is for training.
        choices: names of transforms; default ``INPUT.TRANSFORMS``.
    """
    if cfg.INPUT.NO_TRANSFORM:
        logger.info("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice in UNSUPPORTED:
            raise ValueError(
                f'transform "{choice}" of INPUT.TRANSFORMS is not supported here; use "randaugment"'
            )
        if choice not in AVAI_CHOICES:
            raise ValueError(
                f'INPUT.TRANSFORMS: "{choice}" is unknown; choose among {", ".join(AVAI_CHOICES)}'
            )
    build = _build_transform_train if is_train else _build_transform_test
    return build(cfg.INPUT, set(choices), interpolation_mode(cfg))


def _build_transform_train(inp: CfgNode, choices: set[str], interp: InterpolationMode) -> T.Compose:
    logger.info("Building transform_train")
    size = tuple(inp.SIZE)
    tfms = []

    def add(text: str, tfm: Callable[[Any], Any]) -> None:
        logger.info("+ %s", text)
        tfms.append(tfm)

    if not choices & {"random_crop", "random_resized_crop"}:
        add(f"resize to {size[0]}x{size[1]}", T.Resize(size, interpolation=interp))
    if "random_translation" in choices:
        add("random translation", Random2DTranslation(size, interpolation=interp))
    if "random_crop" in choices:
        add(f"random crop (padding = {inp.CROP_PADDING})", T.RandomCrop(size, padding=inp.CROP_PADDING))
    if "random_resized_crop" in choices:
        scale = tuple(inp.RRCROP_SCALE)
        tfm = T.RandomResizedCrop(size, scale=scale, interpolation=interp)
        add(f"random resized crop (size={size}, scale={scale})", tfm)
    if "random_flip" in choices:
        add("random flip", T.RandomHorizontalFlip())
    for name in ("imagenet", "cifar10", "svhn"):
        if f"{name}_policy" in choices:
            add(f"{name} policy", T.AutoAugment(T.AutoAugmentPolicy(name)))
    if "randaugment" in choices:
        n, m = inp.RANDAUGMENT_N, inp.RANDAUGMENT_M
        add(f"randaugment (n={n}, m={m})", T.RandAugment(num_ops=n, magnitude=m))
    if "colorjitter" in choices:
        strengths = (inp.COLORJITTER_B, inp.COLORJITTER_C, inp.COLORJITTER_S, inp.COLORJITTER_H)
        if min(strengths) < 0 or inp.COLORJITTER_H > 0.5:
            raise ValueError(
                f"INPUT.COLORJITTER_B, INPUT.COLORJITTER_C, INPUT.COLORJITTER_S and INPUT.COLORJITTER_H are "
                f"{strengths}; set them to 0 or more, the last to 0.5 or less"
            )
        add(
            "color jitter (brightness={}, contrast={}, saturation={}, hue={})".format(*strengths),
            T.ColorJitter(*strengths),
        )
    if "randomgrayscale" in choices:
        add("random gray scale", T.RandomGrayscale(p=inp.RGS_P))
    if "gaussian_blur" in choices:
        if inp.GB_K < 1 or inp.GB_K % 2 == 0:
            raise ValueError(f"INPUT.GB_K is {inp.GB_K}; set it to an odd number, 1 or more")
        add(f"gaussian blur (kernel={inp.GB_K})", T.RandomApply([T.GaussianBlur(inp.GB_K)], p=inp.GB_P))
    add("to torch tensor of range [0, 1]", T.ToTensor())
    if "cutout" in choices:
        add(f"cutout (n_holes={inp.CUTOUT_N}, length={inp.CUTOUT_LEN})", Cutout(inp.CUTOUT_N, inp.CUTOUT_LEN))
    if "normalize" in choices:
        add(_normalization(inp), normalize(inp))
    if "gaussian_noise" in choices:
        add(f"gaussian noise (mean={inp.GN_MEAN}, std={inp.GN_STD})", GaussianNoise(inp.GN_MEAN, inp.GN_STD))
    if "instance_norm" in choices:
        add("instance normalization", InstanceNormalization())
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
    if "instance_norm" in choices:
        logger.info("+ instance normalization")
        tfms.append(InstanceNormalization())
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

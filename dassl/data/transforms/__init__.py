"""Image transforms by name."""

from dassl.data.transforms.transforms import (
    INTERPOLATION_MODES,
    build_transform,
    interpolation_mode,
    normalize,
)

__all__ = ["INTERPOLATION_MODES", "build_transform", "interpolation_mode", "normalize"]

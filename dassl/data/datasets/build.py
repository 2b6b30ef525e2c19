"""Registry of data sets."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> Any:
    """The data set that ``DATASET.NAME`` names."""
    return DATASET_REGISTRY.build("DATASET.NAME", cfg.DATASET.NAME, cfg)

"""Registry of trainers."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """The trainer that ``TRAINER.NAME`` names; its file must have been imported."""
    return TRAINER_REGISTRY.build("TRAINER.NAME", cfg.TRAINER.NAME, cfg)

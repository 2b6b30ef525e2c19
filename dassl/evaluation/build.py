"""Registry of evaluators."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """The evaluator that ``TEST.EVALUATOR`` names."""
    return EVALUATOR_REGISTRY.build("TEST.EVALUATOR", cfg.TEST.EVALUATOR, cfg, **kwargs)

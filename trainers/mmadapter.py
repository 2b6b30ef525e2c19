"""MMA: adapters beside the upper blocks, with a layer that text and image share (CVPR 2024).

    y = x + MSA(LN1(x));  x <- y + MLP(LN2(y)) + s (U relu(W relu(D LN1(x) + b) + b') + c)

D and U are each encoder's own, W is one for both encoders' block of that number. At ViT-B/16 674,560 weights
are trained, in blocks 5 to 12. Agrees with trainers/mmadapter.py and clip/model.py of VLM-MultiModalAdapter
at c3d0bc2: as there, a weight learns as if s were 1, which at s = 0.001 is a thousand times its true
gradient.
"""

import math

import torch
from torch import nn
from yacs.config import CfgNode

from adapt.attach import scale_gradient, scale_output
from adapt.cross_modal import CrossModalAdapter, CrossModalLearner
from adapt.method import Method
from adapt.prompts import ClassPrompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares MMA's options with the values of the published vit_b16_ep5."""
    cfg.TRAINER.MMADAPTER = CfgNode()
    options = cfg.TRAINER.MMADAPTER
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # words before the class name, whatever the data set
    options.ADAPTER_START = 5  # first adapted block, from 1
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last
    options.ADAPTER_DIM = 32  # inner width r
    options.ADAPTER_SCALE = 0.001  # s; 0 is CLIP


class PublishedRule(CrossModalAdapter):
    """The gradient to a weight does not carry s, the one to the input does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scale_output(self.inner(scale_gradient(x, self.scale)), self.scale)


class CrossModalAdapters(Method):
    """Trains the adapters by cross entropy over all classes."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "MMADAPTER"
    adapts_vit = True
    scale_key = "ADAPTER_SCALE"
    limits = {"ADAPTER_SCALE": (0, math.inf), "ADAPTER_DIM": (1, math.inf)}

    def template(self) -> str:
        return self.texts.template if self.texts.is_own else f"{self.options.TEXT_CTX_INIT} {{}}."

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> CrossModalLearner:
        learner = CrossModalLearner(self.options, clip_model, self.key, PublishedRule)
        for layer in learner.linears():
            nn.init.zeros_(layer.bias)
        learner.set_scale(self.options.ADAPTER_SCALE)
        return learner


@TRAINER_REGISTRY.register()
class MultiModalAdapter(ClipTrainer):
    """``--trainer MultiModalAdapter``."""

    method = CrossModalAdapters

"""MMA++: MMA with dropout, several prompts a class, and agreement across scales (T-PAMI 2026).

    loss = cross entropy - r mean cos(t, t') - r mean cos(f, f')

t and f are class and image features at the scale s of training, t' and f' those at u s with one u ~ U(0, 1)
a step, through which nothing is learned. Each class has a random prompt of its own in each step; in
evaluation the scale is another one and a class is the mean of its prompts. The adapters are MMA's
(trainers/mmadapter.py) with dropout behind the shared layer and true gradients; at ViT-B/16 674,560 weights.
Agrees with trainers/mmadapter_pp.py of VLM-MMApp at e686c34.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.attach import at_scale, kept_scales
from adapt.cross_modal import CrossModalLearner
from adapt.method import Batch, Method, accuracy
from adapt.model import CustomCLIP
from adapt.prompts import ClassPrompts, described_prompts, readable
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares MMA++'s options with the values of the published b2n_cupl."""
    cfg.TRAINER.MMADAPTERPP = CfgNode()
    options = cfg.TRAINER.MMADAPTERPP
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # in the published files, but not read there either
    options.INPUT_PROMPTS = (
        "cupl"  # cupl: an LLM's sentences as they are; hc: OpenAI's 80 templates of ImageNet
    )
    options.DESCRIPTIONS = ""  # JSON {class: [sentence, …]}; "": <data root>/descriptions/<dataset>.json
    options.ADAPTER_START = 5  # first adapted block, from 1
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last
    options.ADAPTER_DIM = 32  # inner width
    options.ADAPTER_TRAIN_SCALE = 0.01  # s in training
    options.ADAPTER_TRAIN_SCALE_REG = 2.5  # r
    options.ADAPTER_TEST_SCALE = 0.0065  # scale in evaluation, of base and novel classes alike
    options.ADAPTER_DROP = 0.1  # probability of dropout behind the shared layer


class CrossModalAdaptersPP(Method):
    """Trains the adapters by cross entropy over all classes and agreement across scales."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "MMADAPTERPP"
    adapts_vit = True
    compilable = False  # a scale of its own each step, for which compiled blocks would be made anew
    scale_key = "ADAPTER_TRAIN_SCALE"
    limits = {
        "ADAPTER_DIM": (1, math.inf),
        "ADAPTER_TRAIN_SCALE": (0, math.inf),
        "ADAPTER_TRAIN_SCALE_REG": (0, math.inf),
        "ADAPTER_TEST_SCALE": (0, math.inf),
        "ADAPTER_DROP": (0, 0.99),
    }
    choices = {"INPUT_PROMPTS": ("cupl", "hc")}

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        options = self.options
        if options.INPUT_PROMPTS == "hc":
            from open_clip import OPENAI_IMAGENET_TEMPLATES  # takes a second to import

            return [[fill(readable(name)) for fill in OPENAI_IMAGENET_TEMPLATES] for name in classnames]
        remedy = f"; or set {self.key}.INPUT_PROMPTS hc to train with hand-written templates"
        return described_prompts(classnames, self.texts, options, self.key, None, remedy)

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> CrossModalLearner:
        learner = CrossModalLearner(self.options, clip_model, self.key, drop=self.options.ADAPTER_DROP)
        learner.set_scale(self.options.ADAPTER_TEST_SCALE)
        return learner

    def loss_terms(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One step's ``(B, C)`` logits, and the three terms of its loss by name."""
        learner, options = model.adapter_learner, self.options
        with kept_scales(learner.adapters()):
            learner.set_scale(options.ADAPTER_TRAIN_SCALE)
            texts, features = model.encode_text(batch.tokens), model.encode_image(batch.image)
        with at_scale(learner.adapters(), options.ADAPTER_TRAIN_SCALE * self.draw()):
            other_texts, other_features = model.encode_text(batch.tokens), model.encode_image(batch.image)
        logits = model.compare(features, texts)
        r = options.ADAPTER_TRAIN_SCALE_REG
        return logits, {
            "ce": F.cross_entropy(logits, batch.target),
            "text": -r * F.cosine_similarity(texts, other_texts).mean(),
            "image": -r * F.cosine_similarity(features, other_features).mean(),
        }

    def draw(self) -> float:
        """The u of a step."""
        return torch.rand(1).item()

    def loss(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | int]]:
        logits, terms = self.loss_terms(model, batch)
        shown = {"loss_ce": terms["ce"].detach(), "acc": accuracy(logits, batch.target)}
        return torch.stack(list(terms.values())).sum(), shown


@TRAINER_REGISTRY.register()
class MultiModalAdapterPP(ClipTrainer):
    """``--trainer MultiModalAdapterPP``."""

    method = CrossModalAdaptersPP

"""MMA++: MMA with dropout, several prompts a class, and agreement across scales (T-PAMI 2026).

    loss = cross entropy - r mean cos(t, t') - r mean cos(f, f')

t and f are class and image features at the scale s of training, t' and f' those at u s with one u ~ U(0, 1)
a step, through which nothing is learned. Each class has a random prompt of its own in each step; in
evaluation the scale is another one and a class is the mean of its prompts. The adapters are MMA's
(trainers/mmadapter.py) with dropout behind the shared layer and true gradients; at ViT-B/16 674,560 weights.
Agrees with trainers/mmadapter_pp.py of VLM-MMApp at e686c34.
"""

import torch
from torch.nn import functional as F
from yacs.config import CfgNode

from clip.layout import PackedText
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.common.adapters import at_scale, check_number
from trainers.common.clip_trainer import ClipTrainer, accuracy
from trainers.common.cross_modal import CrossModalLearner
from trainers.common.prompts import described_prompts, readable

KEY = "TRAINER.MMADAPTERPP"


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


class AdapterLearner(CrossModalLearner):
    """All layers of MMA++; the scale follows from training or evaluation."""

    def __init__(self, options: CfgNode, clip_model: CLIP) -> None:
        super().__init__(options, clip_model, KEY, drop=options.ADAPTER_DROP)
        self.train_scale = options.ADAPTER_TRAIN_SCALE
        self.test_scale = options.ADAPTER_TEST_SCALE
        self.eval()

    def train(self, mode: bool = True) -> "AdapterLearner":
        self.set_scale(self.train_scale if mode else self.test_scale)
        return super().train(mode)


@TRAINER_REGISTRY.register()
class MultiModalAdapterPP(ClipTrainer):
    """Trains the adapters by cross entropy over all classes and agreement across scales."""

    options_name = "MMADAPTERPP"
    adapts_vit = True

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        options = self.options
        if options.INPUT_PROMPTS not in ("cupl", "hc"):
            raise ValueError(f'{KEY}.INPUT_PROMPTS is "{options.INPUT_PROMPTS}"; set it to cupl or hc')
        if not 0 <= options.ADAPTER_DROP < 1:
            raise ValueError(f"{KEY}.ADAPTER_DROP is {options.ADAPTER_DROP}; set it to 0 or more, below 1")
        for name in ("ADAPTER_TRAIN_SCALE", "ADAPTER_TRAIN_SCALE_REG", "ADAPTER_TEST_SCALE"):
            check_number(options[name], f"{KEY}.{name}")
        if cfg.MODEL.get("COMPILE"):
            raise ValueError(
                "MODEL.COMPILE is True, but MMA++ draws a scale of its own each step, for which compiled "
                "blocks would be made anew; set it to False"
            )

    def class_prompts(self, classnames: list[str]) -> list[list[str]]:
        options = self.options
        if options.INPUT_PROMPTS == "hc":
            from open_clip import OPENAI_IMAGENET_TEMPLATES  # takes a second to import

            return [[fill(readable(name)) for fill in OPENAI_IMAGENET_TEMPLATES] for name in classnames]
        remedy = f"; or set {KEY}.INPUT_PROMPTS hc to train with hand-written templates"
        return described_prompts(classnames, self.cfg, options, KEY, None, remedy)

    def build_adapters(self, clip_model: CLIP) -> AdapterLearner:
        return AdapterLearner(self.options, clip_model)

    def check_training(self) -> None:
        if self.options.ADAPTER_TRAIN_SCALE == 0:
            raise ValueError(f"{KEY}.ADAPTER_TRAIN_SCALE is 0, so there is nothing to train; set it above 0")

    def features(
        self, image: torch.Tensor, tokens: PackedText | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(C, E)`` class and ``(B, E)`` image features of length 1."""
        with self.precision.autocast(self.device):
            return self.model.encode_text(tokens), self.model.encode_image(image)

    def loss_terms(
        self, image: torch.Tensor, tokens: PackedText | torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One step's logits and the three terms of its loss.

        Args:
            image: ``(B, 3, H, W)``.
            tokens: one prompt for each of C classes.
            target: ``(B,)`` classes.

        Returns:
            ``(B, C)`` logits; scalars by name.
        """
        texts, features = self.features(image, tokens)
        with at_scale(self.model.adapter_learner.adapters(), self.options.ADAPTER_TRAIN_SCALE * self.draw()):
            other_texts, other_features = self.features(image, tokens)
        logits = self.model.compare(features, texts)
        r = self.options.ADAPTER_TRAIN_SCALE_REG
        return logits, {
            "ce": F.cross_entropy(logits, target),
            "text": -r * F.cosine_similarity(texts, other_texts).mean(),
            "image": -r * F.cosine_similarity(features, other_features).mean(),
        }

    def draw(self) -> float:
        """The u of a step."""
        return torch.rand(1).item()

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        image, tokens, target = self.step_inputs(batch)
        logits, terms = self.loss_terms(image, tokens, target)
        loss = torch.stack(list(terms.values())).sum()
        self.step(loss)
        return {"loss": loss.detach(), "loss_ce": terms["ce"].detach(), "acc": accuracy(logits, target)}

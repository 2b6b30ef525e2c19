"""What HeBA and LwEIB share: adapters in two places of a block, and a scale drawn anew each step."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip.model import CLIP, Transformer
from trainers.common.adapters import Adapted, adapted_blocks, check_number, check_vit
from trainers.common.clip_trainer import ClipTrainer
from trainers.common.prompts import described_prompts

# Smallest and largest value of each option that must be a number.
LIMITS = {
    "ADAPTER_SCALE_BASE": (0, math.inf),
    "ADAPTER_SCALE_NOVEL": (0, math.inf),
    "ADAPTER_SCALE": (0, math.inf),
    "ADAPTER_SCALE_FACTOR": (0, math.inf),
    "SLOW_FAST_RATIO": (0, 1),
    "NEG_SAMPLING_RATIO": (-1, math.inf),
    "LABEL_SMOOTHING": (0, 1),
}


class ScaledAdapter(nn.Module):
    """An adapter with an output scale; 0 bypasses it, so that CLIP itself is left, bit for bit."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 0.0  # s; SlowFastLearner sets it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale == 0:
            return x
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.compute(x)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """The adapted ``x``, in its dtype."""
        raise NotImplementedError


class SlowFastLearner(nn.Module):
    """The adapters of both encoders, by the published names (``visual_adapter.3.mlp_conv``; blocks from 1).

    The modules are the very ones attached to CLIP's blocks. In evaluation all have ``eval_scale``.

    Raises:
        ValueError: the image encoder is no ViT, or the range of blocks does not fit the encoders.
    """

    def __init__(
        self,
        clip_model: CLIP,
        text: Callable[[int], ScaledAdapter],
        visual: Callable[[int], ScaledAdapter],
        blocks: tuple[int, int],
        key: str,
        places: str = "both",
    ) -> None:
        """Attaches the adapters.

        Args:
            clip_model: gets them.
            text: makes a text adapter of a width.
            visual: makes an image adapter of a width.
            blocks: first and last adapted one, see ``adapted_blocks``.
            key: of the options, for messages: ``TRAINER.HeBA``.
            places: attention (on its input), mlp (on its hidden layer) or both.
        """
        super().__init__()
        check_vit(hasattr(clip_model.visual, "transformer"), key)
        self.base_scale = self.fast_scale = self.eval_scale = 0.0
        self.slow_fast_ratio = 1.0
        self.text_adapter = attach(clip_model.transformer, text, blocks, places, key, "text")
        self.visual_adapter = attach(clip_model.visual.transformer, visual, blocks, places, key, "image")

    def train(self, mode: bool = True) -> "SlowFastLearner":
        super().train(mode)
        if not mode:
            self.set_scale(self.eval_scale)
        return self

    def set_scale(self, scale: float) -> None:
        """Gives all adapters one scale."""
        for adapter in self.modules():
            if isinstance(adapter, ScaledAdapter):
                adapter.scale = scale

    def draw_scales(self) -> None:
        """Slow-fast: each block of each encoder takes s * factor with probability 1 - ratio, else s."""
        for adapters in (self.text_adapter, self.visual_adapter):
            for block in adapters.values():
                fast = torch.rand(1).item() > self.slow_fast_ratio
                for adapter in block.values():
                    adapter.scale = self.fast_scale if fast else self.base_scale


def attach(
    encoder: Transformer,
    kind: Callable[[int], ScaledAdapter],
    blocks: tuple[int, int],
    places: str,
    key: str,
    name: str,
) -> nn.ModuleDict:
    """Wraps ``ln_1`` and ``mlp.c_fc`` of the chosen blocks; returns the adapters by block and place."""
    adapters = nn.ModuleDict()
    for number, block in adapted_blocks(encoder, blocks, key, name):
        here = nn.ModuleDict()
        if places in ("attention", "both"):
            here["att_conv"] = kind(encoder.width)
            block.ln_1 = Adapted(block.ln_1, here["att_conv"])
        if places in ("mlp", "both"):
            here["mlp_conv"] = kind(4 * encoder.width)
            block.mlp.c_fc = Adapted(block.mlp.c_fc, here["mlp_conv"])
        adapters[str(number)] = here
    return adapters


def check_limits(options: CfgNode, key: str) -> None:
    """Checks every option that ``LIMITS`` knows.

    Args:
        options: by name; ADAPTER_SCALE may be None beside an ADAPTER_SCALE_BASE.
        key: where they stand, for the message.

    Raises:
        ValueError: a value is no number or outside its limits.
    """
    for name, (least, most) in LIMITS.items():
        if name not in options:
            continue
        value = options[name]
        if name == "ADAPTER_SCALE" and value is None and "ADAPTER_SCALE_BASE" in options:
            continue
        check_number(value, f"{key}.{name}", least, most)


class SlowFastTrainer(ClipTrainer):
    """Trains such adapters on described classes by cross entropy over those of each step.

    Attributes:
        scale_key: the option that is s in training.
    """

    adapts_vit = True
    scale_key = "ADAPTER_SCALE"

    @property
    def key(self) -> str:
        """Where the options stand, for messages."""
        return f"TRAINER.{self.node()}"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        check_limits(self.options, self.key)

    def check_training(self) -> None:
        if self.model.adapter_learner.base_scale == 0:
            raise ValueError(
                f"{self.key}.{self.scale_key} is 0, so there is nothing to train; set it above 0"
            )

    def class_prompts(self, classnames: list[str]) -> list[list[str]]:
        remedy = f"; or set {self.key}.TEMPLATES \"('a photo of a {{}}.',)\" to train without descriptions"
        context = self.options.TEXT_CTX_INIT
        return described_prompts(classnames, self.cfg, self.options, self.key, context, remedy)

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor | int]:
        image, tokens, target = self.step_inputs(batch, self.options.NEG_SAMPLING_RATIO)
        self.model.adapter_learner.draw_scales()
        with self.precision.autocast(self.device):
            logits = self.model(image, tokens)
            loss = F.cross_entropy(logits, target, label_smoothing=self.options.get("LABEL_SMOOTHING", 0.0))
        self.step(loss)
        return {"loss": loss.detach(), "n_cls": logits.shape[1]}

"""A frozen CLIP with a method's adapters: the model that every method here trains and evaluates.

Symbols: B images, C classes, P prompts, L tokens, E width of the joint embedding.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapt.prompts import TOKENS_AT_ONCE, ClassPrompts
from clip import clip
from clip.layout import PackedText, send
from clip.model import CLIP, build_model

logger = logging.getLogger(__name__)


def load_clip(backbone: str | Path, quick_gelu: bool | None = None) -> CLIP:
    """CLIP by its name (``ViT-B/16``) or the path of its weights, in float32 on the CPU.

    Args:
        backbone: the name or the path.
        quick_gelu: the activation, where the file does not tell it.

    Raises:
        ValueError: unknown name, unreadable weights, or weights whose activation is unknown.
    """
    weights = clip.load_state_dict(str(backbone))
    if quick_gelu not in (None, True, False):
        raise ValueError(f'MODEL.BACKBONE.QUICK_GELU is "{quick_gelu}"; set it to True or False')
    try:
        quick_gelu = weights.decide_quick_gelu(quick_gelu)
    except ValueError as error:
        raise ValueError(f"{error}; in a configuration: MODEL.BACKBONE.QUICK_GELU True or False") from error
    return build_model(weights.state_dict, quick_gelu, source=weights.source, half=False)


class CustomCLIP(nn.Module):
    """CLIP, what a method adds to it, and the prompts of the classes.

    Args:
        clip_model: CLIP, with the adapters attached.
        prompts: of the classes.
        adapter_learner: holds every weight that is trained; None: there are none.

    Attributes:
        method: the ``Method`` that was added, where ``build_model`` built this.
    """

    def __init__(
        self, clip_model: CLIP, prompts: ClassPrompts, adapter_learner: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.clip = clip_model
        self.prompts = prompts
        self.adapter_learner = adapter_learner
        self.method: Any = None
        self._kept_text_features: torch.Tensor | None = None

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` images → ``(B, E)`` features of length 1."""
        return F.normalize(self.clip.encode_image(image).float(), dim=-1)

    def encode_text(self, tokens: torch.Tensor | PackedText) -> torch.Tensor:
        """``(P, L)`` tokens, or P packed prompts → ``(P, E)`` features of length 1."""
        return F.normalize(self.clip.encode_text(tokens).float(), dim=-1)

    @torch.no_grad()
    def text_features(self) -> torch.Tensor:
        """``(C, E)`` class features: the mean of each class's normalised prompt features, normalised again.

        Prompts run in order of length, so that short ones are not padded to long ones.
        """
        device, prompts = self.clip.logit_scale.device, self.prompts
        batches = prompts.batches(TOKENS_AT_ONCE)
        parts = [self.encode_text(send(prompts.layout(prompts.tokens[some]), device)) for some in batches]
        features = torch.cat(parts)[send(torch.cat(batches).argsort(), device)]
        return F.normalize(class_means(features, prompts.counts), dim=-1)

    @contextmanager
    def keep_text_features(self) -> Iterator[None]:
        """Computes the class features once for all images inside the block, and forgets them after it.

        Outside such a block every evaluation computes them anew, so they are never those of other weights,
        another scale or other classes.
        """
        self._kept_text_features = self.text_features()
        try:
            yield
        finally:
            self._kept_text_features = None

    def forward(self, image: torch.Tensor, tokens: torch.Tensor | PackedText | None = None) -> torch.Tensor:
        """Logits of images, compared in float32 whatever the encoders compute in.

        Args:
            image: ``(B, 3, H, W)``.
            tokens: ``(C', L)`` one prompt for each class to tell apart, in training. None: all classes,
                each by the mean of its prompts.

        Returns:
            ``(B, C')`` or ``(B, C)`` cosines times CLIP's logit scale.
        """
        if tokens is not None:
            text = self.encode_text(tokens)
        elif self._kept_text_features is not None:
            text = self._kept_text_features
        else:
            text = self.text_features()
        return self.compare(self.encode_image(image), text)

    def compare(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """``(B, E)`` and ``(C, E)`` features of length 1 → ``(B, C)`` logits, in float32."""
        with torch.autocast(image.device.type, enabled=False):
            return self.clip.logit_scale.exp() * image @ text.t()


def adapter_weights(model: CustomCLIP) -> dict[str, nn.Parameter]:
    """The adapter weights by name: what a method trains. Freezing, counting and tests all ask this."""
    learner = model.adapter_learner
    return {} if learner is None else {f"adapter_learner.{k}": w for k, w in learner.named_parameters()}


def freeze_backbone(model: CustomCLIP) -> None:
    """Leaves gradients on for adapter weights and off for everything else."""
    model.requires_grad_(False)
    for weight in adapter_weights(model).values():
        weight.requires_grad_(True)


def class_means(features: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Means of each class's prompts, for all classes of as many prompts at once.

    Args:
        features: ``(P, E)``, class after class.
        counts: ``(C,)`` number of prompts of each class, on the host.

    Returns:
        ``(C, E)``.
    """
    starts, means = counts.cumsum(0) - counts, features.new_empty(len(counts), features.shape[1])
    for count in counts.unique().tolist():
        classes = (counts == count).nonzero().squeeze(1)
        rows = starts[classes, None] + torch.arange(count)
        means[send(classes, features.device)] = features[send(rows, features.device)].mean(1)
    return means

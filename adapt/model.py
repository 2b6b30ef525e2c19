"""A frozen CLIP with a method's adapters: the model that every method here trains and evaluates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.prompts import ClassPrompts
from clip import clip
from clip.layout import PackedText, send
from clip.model import CLIP, build_model

TOKENS_AT_ONCE = 8192  # tokens in one pass of the text encoder at evaluation: 67 MB a hidden layer


def load_clip(cfg: CfgNode) -> CLIP:
    """CLIP named by ``MODEL.BACKBONE.NAME`` (a name or a path), in float32 on the CPU.

    Raises:
        ValueError: unknown name, unreadable weights, or weights whose activation is unknown.
    """
    weights = clip.load_state_dict(cfg.MODEL.BACKBONE.NAME)
    quick_gelu = cfg.MODEL.BACKBONE.get("QUICK_GELU")
    if quick_gelu not in (None, True, False):
        raise ValueError(f'MODEL.BACKBONE.QUICK_GELU is "{quick_gelu}"; set it to True or False')
    try:
        quick_gelu = weights.decide_quick_gelu(quick_gelu)
    except ValueError as error:
        raise ValueError(f"{error}; in a configuration: MODEL.BACKBONE.QUICK_GELU True or False") from error
    return build_model(weights.state_dict, quick_gelu, source=weights.source, half=False)


class CustomCLIP(nn.Module):
    """CLIP, what a method adds to it (``adapter_learner``), and the prompts of the classes.

    Symbols: B images, C classes, P prompts, L tokens, D width of the joint embedding.
    """

    def __init__(
        self, clip_model: CLIP, prompts: ClassPrompts, adapter_learner: nn.Module | None = None
    ) -> None:
        super().__init__()
        # First, so that adapter weights go by this name although CLIP's blocks hold the same modules.
        self.adapter_learner = adapter_learner
        self.clip = clip_model
        self.prompts = prompts
        self._kept_text_features: torch.Tensor | None = None

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` images → ``(B, D)`` features of length 1."""
        return F.normalize(self.clip.encode_image(image).float(), dim=-1)

    def encode_text(self, tokens: torch.Tensor | PackedText) -> torch.Tensor:
        """``(P, L)`` tokens, or P packed prompts → ``(P, D)`` features of length 1."""
        states, first, prefix = None, 0, self.prompts.prefix
        if prefix is not None and isinstance(tokens, PackedText) and tokens.rows is not None:
            states, first = prefix.states.index_select(0, tokens.rows), prefix.blocks
        return F.normalize(self.clip.encode_text(tokens, states, first).float(), dim=-1)

    @torch.no_grad()
    def text_features(self) -> torch.Tensor:
        """``(C, D)`` class features: the mean of each class's normalised prompt features, normalised again.

        Prompts run in order of length, so that short ones are not padded to long ones.
        """
        tokens, counts, arrange = self.prompts.tokens, self.prompts.counts, self.prompts.arrange
        device = self.clip.logit_scale.device
        passes = self.prompts.passes(TOKENS_AT_ONCE)
        parts = [self.encode_text(send(arrange(tokens[chosen]), device)) for chosen in passes]
        features = torch.cat(parts)[send(torch.cat(passes).argsort(), device)]
        return F.normalize(class_means(features, counts), dim=-1)

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
        """``(B, D)`` and ``(C, D)`` features of length 1 → ``(B, C)`` logits, in float32."""
        with torch.autocast(image.device.type, enabled=False):
            return self.clip.logit_scale.exp() * image @ text.t()


def class_means(features: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Means of each class's prompts, for all classes of as many prompts at once.

    Args:
        features: ``(P, D)``, class after class.
        counts: ``(C,)`` number of prompts of each class, on the host.

    Returns:
        ``(C, D)``.
    """
    starts, means = counts.cumsum(0) - counts, features.new_empty(len(counts), features.shape[1])
    for count in counts.unique().tolist():
        classes = (counts == count).nonzero().squeeze(1)
        rows = starts[classes, None] + torch.arange(count)
        means[send(classes, features.device)] = features[send(rows, features.device)].mean(1)
    return means

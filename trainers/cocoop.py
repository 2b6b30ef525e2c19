"""CoCoOp: learned words that a small network shifts for each image (CVPR 2022, arXiv 2203.05557).

    t_c(x) = text encoder(v_1 + p(x) ... v_M + p(x), class name, ".")
    p(x) = W_2 relu(W_1 f + b_1) + b_2                              E -> E / 16 -> D

f is the image feature of length 1. Each image has class features of its own, so B images and C classes take
B x C texts. At ViT-B/16 35,360 weights are trained. Agrees with trainers/cocoop.py of KaiyangZhou/CoOp at
ff61507.

Symbols: B images, C classes, M learned words, E width of the joint embedding, D width of the text encoder.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from yacs.config import CfgNode

from adapt.learned_words import Context, LearnedWords, PromptLearner, for_each_image
from adapt.model import CustomCLIP
from adapt.prompts import TOKENS_AT_ONCE, ClassPrompts
from clip.layout import PackedText, send
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares CoCoOp's options with the defaults of CoOp's train.py."""
    cfg.TRAINER.COCOOP = CfgNode()
    options = cfg.TRAINER.COCOOP
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.CTX_INIT = ""  # words that the vectors start from, one vector a word: N_CTX is not used then
    options.N_CTX = 16  # number of vectors M where CTX_INIT is empty; they start from N(0, 0.02^2)


class ConditionalPromptLearner(PromptLearner):
    """The learned vectors and the network that shifts them; PyTorch's initial values in the latter."""

    def __init__(self, clip_model: CLIP, context: Context) -> None:
        super().__init__(clip_model, context)
        width, embed_dim = clip_model.text_projection.shape
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed_dim, embed_dim // 16),
                relu=nn.ReLU(),
                linear2=nn.Linear(embed_dim // 16, width),
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(B, E)`` image features → ``(B, M, D)`` vectors."""
        return self.ctx + self.meta_net(features).unsqueeze(1)


class ConditionalCLIP(CustomCLIP):
    """CLIP whose class features depend on the image."""

    @contextmanager
    def keep_text_features(self) -> Iterator[None]:
        """Keeps nothing: no two images have the same class features."""
        yield

    def forward(self, image: torch.Tensor, tokens: torch.Tensor | PackedText | None = None) -> torch.Tensor:
        """``(B, C)`` logits; as many images at once as make 8,192 tokens of text, at least one."""
        if tokens is None:
            tokens = send(self.prompts.layout(self.prompts.tokens), image.device)
        features = self.encode_image(image)
        vectors = self.adapter_learner(features)
        size = (tokens.tokens if isinstance(tokens, PackedText) else tokens).numel()
        at_once = max(1, TOKENS_AT_ONCE // size)
        pairs = zip(features.split(at_once), vectors.split(at_once), strict=True)
        return torch.cat([self.compare_each(some, own, tokens) for some, own in pairs])

    def compare_each(
        self, features: torch.Tensor, vectors: torch.Tensor, tokens: torch.Tensor | PackedText
    ) -> torch.Tensor:
        """``(B, C)`` logits of ``(B, E)`` image features with prompts of their own ``(B, M, D)`` vectors."""
        images, words, _ = vectors.shape
        embedding = self.clip.token_embedding
        embedding.instead = vectors
        try:
            text = self.encode_text(for_each_image(tokens, images, words))  # (B C, E)
        finally:
            embedding.instead = None
        text = text.unflatten(0, (images, -1))
        with torch.autocast(features.device.type, enabled=False):
            return self.clip.logit_scale.exp() * (text @ features.unsqueeze(-1)).squeeze(-1)


class ConditionalContextOptimization(LearnedWords):
    """Trains vectors and network by cross entropy over all classes."""

    extend_cfg = staticmethod(extend_cfg)
    name, options_name = "CoCoOp", "COCOOP"
    model_class = ConditionalCLIP

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> ConditionalPromptLearner:
        return ConditionalPromptLearner(clip_model, self.context)


@TRAINER_REGISTRY.register()
class CoCoOp(ClipTrainer):
    """``--trainer CoCoOp``."""

    method = ConditionalContextOptimization

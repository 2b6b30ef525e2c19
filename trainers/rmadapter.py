"""RMAdapter: adapters that also reconstruct what they see (AAAI-26, arXiv 2512.06811) on a frozen CLIP ViT.

Beside each of the upper blocks of both encoders stands an adapter of two branches that share a projection:

    h = GELU(W_down x + b_down)                                            (8)   D -> r
    x <- block(x) + s (W_up h + b_up)                                      (9), (14), (15)
    R(x) = W_2 GELU(W_1 h + b_1) + b_2                                     (10)  r -> r -> D
    loss = cross entropy                                                   (16)
         + lambda1 sum |x - R(x)|^2 over the blocks of the image encoder   (11)
         + lambda2 sum |x - R(x)|^2 over the blocks of the text encoder    (12)
         + lambda3 |f - f*| + lambda4 |t - t*|                             (17)

f and t are image and class features of length 1, f* and t* those of CLIP without adapters; R takes no part in
the output. There is no public code, and the paper's body states hardly any value: docs/FIDELITY.md says where
each comes from. At ViT-B/16 the adapters have 1,020,928 weights, 354,816 of them in the second branch.

Symbols: B images or prompts, N tokens, D width of an encoder or of the features, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip.layout import Layout, PackedText
from clip.model import CLIP, Transformer
from dassl.engine import TRAINER_REGISTRY
from trainers.common.adapters import adapted_blocks, at_scale, check_vit, scale_gradient, scale_output
from trainers.common.blocks import Beside
from trainers.common.clip_trainer import ClipTrainer, accuracy

KEY = "TRAINER.RMADAPTER"


def extend_cfg(cfg: CfgNode) -> None:
    """Declares the options; (MMA), (PromptSRC): not in the paper's body, taken from work that it follows."""
    cfg.TRAINER.RMADAPTER = CfgNode()
    options = cfg.TRAINER.RMADAPTER
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # words before the class name (MMA)
    options.ADAPTER_START = 5  # first adapted block, from 1 (MMA)
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last (MMA)
    options.ADAPTER_DIM = 32  # r (MMA); with 8 blocks it fits the stated 320 K weights of the second branch
    options.ADAPTER_SCALE = 0.001  # s, the paper's alpha (MMA); 0 is CLIP
    options.LAMBDA1 = 1.0  # image tokens' reconstruction; 0: without that branch (an assumption)
    options.LAMBDA2 = 1.0  # text tokens' reconstruction; 0: without that branch (an assumption)
    options.LAMBDA3 = 10.0  # distance of image features from CLIP's (PromptSRC)
    options.LAMBDA4 = 25.0  # distance of class features from CLIP's (PromptSRC)
    options.CON_REDUCTION = "mean"  # of that distance over D (PromptSRC); sum: as eq. (17) is printed
    # Other values of these are for ablations; rmadapter_ablations.py has them.
    options.SHARING = "down"  # which projection both branches share: down; up, none: table 5
    options.REC_LAYERS = 2  # linear maps of R behind h; 1, 3: table 6
    options.REC_LOSS = "l2"  # squared distance; l1, cosine: what the paper also tried
    options.REC_REDUCTION = "mean"  # over D (an assumption); sum: as eq. (11), (12) are printed
    options.REC_TARGET = "input"  # of the adapter (figure 2); output: of the block (eq. 11, 12)
    options.REC_LOCAL = True  # reconstructing teaches the block's own adapter alone; False: those below too
    options.ADAPTER_INPUT = "block"  # what enters the block (eq. 14, 15); ln_1: its LN1, as in MMA
    options.GRADIENT_RULE = "mma"  # mma: weights learn from the output as if s were 1; exact: they do not


class DualAdapter(nn.Module):
    """The two branches for tokens ``(..., D)``.

    Args:
        width: D.
        options: below ``TRAINER.RMADAPTER``.
        weight: lambda of the reconstruction; 0: there is no second branch.

    Attributes:
        scale: s.
        listens: whether a pass leaves its loss, inside ``AdapterLearner.listen``.
        loss: weighted loss of the last reconstruction, until ``AdapterLearner.take_loss`` takes it.
    """

    def __init__(self, width: int, options: CfgNode, weight: float) -> None:
        super().__init__()
        rank = options.ADAPTER_DIM
        self.scale = options.ADAPTER_SCALE
        self.weight = weight
        self.listens = False
        self.loss: torch.Tensor | None = None
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        if weight:
            self.rec_mid = nn.Sequential(nn.Linear(rank, rank), nn.GELU())
            self.rec_up = nn.Linear(rank, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """MMA's initial values: He normal over outputs, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the block's output, under MMA's gradient rule."""
        hidden = F.gelu(self.down(scale_gradient(x, self.scale)))
        return scale_output(self.up(hidden), self.scale)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """R(x); computes h anew, because the gradient to ``x`` is another one than in ``forward``."""
        return self.rec_up(self.rec_mid(F.gelu(self.down(x))))

    def missed(self, x: torch.Tensor) -> torch.Tensor:
        """|x - R(x)|^2, a mean over tokens and D; only this adapter learns from it."""
        x = x.detach()
        return F.mse_loss(self.reconstruct(x).float(), x.float())

    def learn_from(self, x: torch.Tensor) -> None:
        """Keeps the loss of a pass that is listened to; none of CLIP's own features."""
        if self.listens and self.weight and self.scale and torch.is_grad_enabled():
            self.loss = self.weight * self.missed(x)


class DualBlock(Beside):
    """A frozen block and the adapter beside it, which also reconstructs what it sees."""

    def forward(self, x: torch.Tensor, layout: Layout | None = None) -> torch.Tensor:
        self.adapter.learn_from(self.norm(x))
        return super().forward(x, layout)

    def leave(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Few tokens leave the last block; all that enter it are reconstructed."""
        self.adapter.learn_from(self.norm(x))
        return super().leave(x, layout)


class AdapterLearner(nn.Module):
    """The adapters of both encoders, ``visual_adapter.5.down.weight``; blocks from 1."""

    def __init__(self, options: CfgNode, clip_model: CLIP) -> None:
        super().__init__()
        check_vit(hasattr(clip_model.visual, "transformer"), KEY)
        self.text_adapter = attach(clip_model.transformer, options, options.LAMBDA2, "text")
        self.visual_adapter = attach(clip_model.visual.transformer, options, options.LAMBDA1, "image")

    def adapters(self) -> list[DualAdapter]:
        """Those of both encoders."""
        return [*self.visual_adapter.values(), *self.text_adapter.values()]

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Inside, each pass leaves its reconstruction losses; what nobody takes is forgotten at the end."""
        for adapter in self.adapters():
            adapter.listens = True
        try:
            yield
        finally:
            for adapter in self.adapters():
                adapter.listens, adapter.loss = False, None

    def take_loss(self) -> torch.Tensor:
        """The weighted sum of all reconstruction losses of the pass that was listened to."""
        losses = [adapter.loss for adapter in self.adapters() if adapter.weight]
        return torch.stack(losses).sum() if losses else torch.zeros(())


def attach(encoder: Transformer, options: CfgNode, weight: float, name: str) -> nn.ModuleDict:
    """Puts an adapter beside each of the chosen blocks; returns the adapters by block."""
    from trainers.rmadapter_ablations import dual_kinds  # which imports this file

    adapter_kind, block_kind = dual_kinds(options)  # the classes above, unless an ablation is asked for
    adapters = nn.ModuleDict()
    for number, block in adapted_blocks(encoder, (options.ADAPTER_START, options.ADAPTER_END), KEY, name):
        adapter = adapter_kind(encoder.width, options, weight)
        norm = block.ln_1 if options.ADAPTER_INPUT == "ln_1" else None
        encoder.resblocks[number - 1] = block_kind(block, adapter, norm)
        adapters[str(number)] = adapter
    return adapters


@TRAINER_REGISTRY.register()
class RMAdapter(ClipTrainer):
    """Trains the adapters by cross entropy, reconstruction, and nearness to CLIP's features."""

    options_name = "RMADAPTER"
    adapts_vit = True

    def check_cfg(self, cfg: CfgNode) -> None:
        from trainers.rmadapter_ablations import check_options

        super().check_cfg(cfg)
        check_options(self.options)

    @classmethod
    def template(cls, cfg: CfgNode) -> str:
        return cfg.DATASET.TEMPLATE or f"{cfg.TRAINER[cls.node()].TEXT_CTX_INIT} {{}}."

    def build_adapters(self, clip_model: CLIP) -> AdapterLearner:
        return AdapterLearner(self.options, clip_model)

    def check_training(self) -> None:
        if self.options.ADAPTER_SCALE == 0:
            raise ValueError(f"{KEY}.ADAPTER_SCALE is 0, so there is nothing to train; set it above 0")

    def before_train(self) -> None:
        super().before_train()
        self.keep_frozen_texts()

    def keep_frozen_texts(self) -> None:
        """Computes t* ``(C, D)`` once for all steps, as the prompts are fixed."""
        with at_scale(self.model.adapter_learner.adapters(), 0), self.precision.autocast(self.device):
            self.frozen_texts = self.model.text_features()

    def loss_terms(
        self, image: torch.Tensor, tokens: torch.Tensor | PackedText, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One step's logits and the three terms of its loss.

        Args:
            image: ``(B, 3, H, W)``.
            tokens: one prompt for each class, in their order.
            target: ``(B,)`` classes.

        Returns:
            ``(B, C)`` logits; scalars by name.
        """
        model, learner = self.model, self.model.adapter_learner
        with learner.listen(), self.precision.autocast(self.device):
            features, texts = model.encode_image(image), model.encode_text(tokens)
            reconstruction = learner.take_loss().to(self.device)
        logits = model.compare(features, texts)
        nearness = self.options.LAMBDA4 * self.distance(texts, self.frozen_texts)
        if self.options.LAMBDA3:
            with at_scale(learner.adapters(), 0), self.precision.autocast(self.device):
                frozen = model.encode_image(image)
            nearness = nearness + self.options.LAMBDA3 * self.distance(features, frozen)
        return logits, {"ce": F.cross_entropy(logits, target), "con": nearness, "rec": reconstruction}

    def distance(self, features: torch.Tensor, frozen: torch.Tensor) -> torch.Tensor:
        """L1 distance of ``(B, D)`` features, a mean over B."""
        return F.l1_loss(features, frozen) * (
            features.shape[-1] if self.options.CON_REDUCTION == "sum" else 1
        )

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor]:
        image, tokens, target = self.step_inputs(batch)
        logits, terms = self.loss_terms(image, tokens, target)
        loss = torch.stack(list(terms.values())).sum()
        self.step(loss)
        shown = {f"loss_{name}": term.detach() for name, term in terms.items()}
        return {"loss": loss.detach(), **shown, "acc": accuracy(logits, target)}

"""Variants of RMAdapter that only ablations need; with the default options nothing here is used."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.blocks import ParallelAdapter
from clip.layout import Layout
from trainers.rmadapter import KEY, DualAdapter, DualBlock

# The first choice of each is the default.
CHOICES = {
    "CON_REDUCTION": ("mean", "sum"),
    "SHARING": ("down", "up", "none"),
    "REC_LAYERS": (2, 1, 3),
    "REC_LOSS": ("l2", "l1", "cosine"),
    "REC_REDUCTION": ("mean", "sum"),
    "REC_TARGET": ("input", "output"),
    "REC_LOCAL": (True, False),
    "ADAPTER_INPUT": ("block", "ln_1"),
    "GRADIENT_RULE": ("mma", "exact"),
}
VARY_THE_ADAPTER = ("SHARING", "REC_LAYERS", "REC_LOSS", "REC_REDUCTION", "REC_LOCAL", "GRADIENT_RULE")


class VariedAdapter(DualAdapter):
    """What ``VARY_THE_ADAPTER`` changes.

    With ``SHARING up`` the shared weights go by two names in a state dict, ``up`` and ``rec_up``.
    """

    def __init__(self, width: int, options: CfgNode, weight: float) -> None:
        super().__init__(width, options, weight)
        self.options = options
        if not weight:
            return
        rank = options.ADAPTER_DIM
        layers = [(nn.Linear(rank, rank), nn.GELU()) for _ in range(options.REC_LAYERS - 1)]
        self.rec_mid = nn.Sequential(*(part for layer in layers for part in layer))
        self.rec_down = self.down if options.SHARING == "down" else nn.Linear(width, rank)
        if options.SHARING == "up":
            self.rec_up = self.up
        self.reset_parameters()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.options.GRADIENT_RULE == "exact":
            return self.scale * self.up(F.gelu(self.down(x)))
        return super().forward(x)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.rec_up(self.rec_mid(F.gelu(self.rec_down(x))))

    def reconstruction_loss(self, x: torch.Tensor) -> torch.Tensor:
        """What the reconstruction misses, a mean over tokens."""
        if self.options.REC_LOCAL:
            x = x.detach()
        found, x = self.reconstruct(x).float(), x.float()
        if self.options.REC_LOSS == "cosine":
            return (1 - F.cosine_similarity(found, x, dim=-1)).mean()
        loss = F.mse_loss(found, x) if self.options.REC_LOSS == "l2" else F.l1_loss(found, x)
        return loss * x.shape[-1] if self.options.REC_REDUCTION == "sum" else loss


class OutputBlock(DualBlock):
    """The adapter reconstructs the block's output: equations (11), (12) to the letter.

    R then sees the output too, through the down-projection that adapts the input.
    """

    def forward(self, x: torch.Tensor, layout: Layout | None = None, last: bool = False) -> torch.Tensor:
        learns = self.adapter.recording and torch.is_grad_enabled()  # all tokens of the output are needed
        y = ParallelAdapter.forward(self, x, layout, last and not learns)
        if not learns:
            return y
        self.adapter.record_loss(self.norm(y))
        return layout.pooled_tokens(y) if last else y


def dual_kinds(options: CfgNode) -> tuple[type[DualAdapter], type[DualBlock]]:
    """The classes of adapters and of blocks that the options ask for."""
    varied = any(options[name] != CHOICES[name][0] for name in VARY_THE_ADAPTER)
    return VariedAdapter if varied else DualAdapter, (
        OutputBlock if options.REC_TARGET == "output" else DualBlock
    )


def check_options(options: CfgNode) -> None:
    """Refuses what none of RMAdapter's options may be.

    Raises:
        ValueError: an option is none of its choices, or a number is out of its range.
    """
    for name, choices in CHOICES.items():
        if options[name] not in choices:
            raise ValueError(
                f'{KEY}.{name} is "{options[name]}"; set it to one of {", ".join(map(str, choices))}'
            )
    for name in ("ADAPTER_SCALE", "LAMBDA1", "LAMBDA2", "LAMBDA3", "LAMBDA4"):
        if not 0 <= options[name] < math.inf:  # NaN neither
            raise ValueError(f"{KEY}.{name} is {options[name]}; set it to a number from 0")
    if options.ADAPTER_DIM < 1:
        raise ValueError(f"{KEY}.ADAPTER_DIM is {options.ADAPTER_DIM}; set it to a whole number from 1")

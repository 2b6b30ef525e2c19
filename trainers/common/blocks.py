"""Wrappers of CLIP's blocks, for methods that work beside a whole block or on the tokens that enter it.

A block has two ways through: ``forward(x, layout)``, and ``leave(x, layout)``, which computes only the tokens
that leave the tower. Symbols: B batch, N tokens, T tokens of packed texts, D width.
"""

import torch
from torch import nn

from clip.layout import Layout


class Beside(nn.Module):
    """A frozen block with an adapter parallel to it: ``block(x) + adapter(norm(x))`` (MMA, RMAdapter).

    Args:
        block: one of CLIP's.
        adapter: token-wise, ``(…, D)`` to ``(…, D)``.
        norm: applied to what the adapter sees; MMA's is the block's own ``ln_1``.
    """

    def __init__(self, block: nn.Module, adapter: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.adapter = adapter
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: torch.Tensor, layout: Layout | None = None) -> torch.Tensor:
        return self.block(x, layout) + self.adapter(self.norm(x))

    def leave(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        return self.block.leave(x, layout) + self.adapter(self.norm(layout.leaving(x)))

"""Wrappers of CLIP's blocks, for methods that work beside a whole block or on the tokens that enter it.

They are called as a block is, ``forward(x, layout, last)``, where ``last`` asks for the pooled tokens
alone. Symbols: B batch, N tokens, T tokens of packed texts, D width.
"""

import torch
from torch import nn
from torch.nn import functional as F

from clip.layout import Layout, PackedText


class ParallelAdapter(nn.Module):
    """A frozen block with an adapter parallel to it: ``block(x) + adapter(norm(x))`` (MMA, RMAdapter).

    Args:
        block: one of CLIP's.
        adapter: token-wise, ``(…, D)`` to ``(…, D)``, with its ``scale`` in it; at 0 it is passed by.
        norm: applied to what the adapter sees; MMA's is the block's own ``ln_1``.
    """

    def __init__(self, block: nn.Module, adapter: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.adapter = adapter
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: torch.Tensor, layout: Layout | None = None, last: bool = False) -> torch.Tensor:
        y = self.block(x, layout, last)
        if self.adapter.scale == 0:
            return y
        return y + self.adapter(self.norm(layout.pooled_tokens(x) if last else x))


class PromptVectors(nn.Module):
    """Learned prompts ``(n, D)``: vectors, or a linear map of vectors that stand elsewhere."""

    def __init__(self, vectors: nn.Parameter, proj: nn.Linear | None = None) -> None:
        super().__init__()
        self.vectors = vectors
        self.proj = nn.Identity() if proj is None else proj

    def forward(self) -> torch.Tensor:
        return self.proj(self.vectors)


class PromptedBlock(nn.Module):
    """A frozen block; some of the tokens that enter it are replaced by prompts (MaPLe)."""

    def __init__(self, block: nn.Module, prompts: PromptVectors) -> None:
        super().__init__()
        self.block = block
        self.prompts = prompts

    def replace(self, x: torch.Tensor, layout: Layout | None) -> torch.Tensor:
        """The tokens with the prompts among them."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, layout: Layout | None = None, last: bool = False) -> torch.Tensor:
        return self.block(self.replace(x, layout), layout, last)


class PromptedText(PromptedBlock):
    """Of a text encoder: the n tokens after each start of text are replaced."""

    def replace(self, x: torch.Tensor, layout: PackedText | None) -> torch.Tensor:
        prompts = self.prompts().to(x.dtype)
        positions = torch.arange(x.shape[-2], device=x.device) if layout is None else layout.positions
        index = positions - 1
        there = (index >= 0) & (index < len(prompts))  # (L,) or (T,)
        return torch.where(there.unsqueeze(-1), F.embedding(index.clamp(0, len(prompts) - 1), prompts), x)


class PromptedImage(PromptedBlock):
    """Of an image encoder: the last n tokens are replaced."""

    def replace(self, x: torch.Tensor, layout: Layout | None) -> torch.Tensor:
        prompts = self.prompts().to(x.dtype)
        return torch.cat([x[:, : -len(prompts)], prompts.expand(len(x), -1, -1)], dim=1)


class AppendedPrompts(nn.Module):
    """The frozen norm of the tokens that enter an image encoder, with n prompts behind them."""

    def __init__(self, norm: nn.Module, prompts: PromptVectors) -> None:
        super().__init__()
        self.norm = norm
        self.prompts = prompts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.cat([x, self.prompts().to(x.dtype).expand(len(x), -1, -1)], dim=1))

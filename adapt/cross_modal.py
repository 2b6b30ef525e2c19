"""What MMA and MMA++ share: adapters beside whole blocks, whose inner layer both encoders have in common.

    h = relu(W_m LN1(x) + b_m)              D_m -> r, of each encoder m
    h = relu(W h + b)                       r -> r, the same for both encoders' block of that number
    x <- block(x) + s (U_m h + c_m)         r -> D_m

Symbols: D_m width of an encoder, r inner width, s scale.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapt.attach import adapted_blocks
from adapt.blocks import ParallelAdapter
from clip.model import CLIP


class Branch(nn.Module):
    """An encoder's own layers of one block."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Linear(width, rank), nn.ReLU())
        self.up = nn.Linear(rank, width)


class CrossModalAdapter(nn.Module):
    """What stands beside a block: its encoder's branch and the shared layer, for tokens ``(…, D)``."""

    def __init__(self, branch: Branch, shared: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shared = shared
        self.scale = 0.0  # s; the learner sets it

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """The adapter's output before the scale."""
        return self.branch.up(self.shared(self.branch.down(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.inner(x)


class CrossModalLearner(nn.Module):
    """The layers by their published names: ``text_adapter.5.down.0``, ``shared_adapter.5.0``; blocks from 1.

    Args:
        options: ``ADAPTER_DIM``, and those of ``adapted_blocks``.
        clip_model: gets the adapters.
        key: of the options, for messages.
        kind: class of the adapter parallel to a block.
        drop: probability of dropout behind the shared layer; None: there is no such layer.

    Raises:
        ValueError: see ``adapted_blocks``.
    """

    def __init__(
        self,
        options: Any,
        clip_model: CLIP,
        key: str,
        kind: type[CrossModalAdapter] = CrossModalAdapter,
        drop: float | None = None,
    ) -> None:
        super().__init__()
        rank = options.ADAPTER_DIM
        self.text_adapter = nn.ModuleDict()
        self.visual_adapter = nn.ModuleDict()
        self.shared_adapter = nn.ModuleDict()
        self._adapters: list[CrossModalAdapter] = []  # they stand in CLIP; their layers are listed here
        branches = {"text": self.text_adapter, "visual": self.visual_adapter}
        for name, encoder, number in adapted_blocks(clip_model, options, key):
            block, here = encoder.resblocks[number - 1], str(number)
            if here not in self.shared_adapter:
                more = [] if drop is None else [nn.Dropout(drop)]
                self.shared_adapter[here] = nn.Sequential(nn.Linear(rank, rank), nn.ReLU(), *more)
            branches[name][here] = Branch(encoder.width, rank)
            adapter = kind(branches[name][here], self.shared_adapter[here])
            encoder.resblocks[number - 1] = ParallelAdapter(block, adapter, block.ln_1)
            self._adapters.append(adapter)
        for layer in self.linears():  # as published; biases keep PyTorch's initial values
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def linears(self) -> Iterator[nn.Linear]:
        """Returns every layer with weights."""
        return (module for module in self.modules() if isinstance(module, nn.Linear))

    def adapters(self) -> list[CrossModalAdapter]:
        """Returns the adapters of both encoders."""
        return self._adapters

    def set_scale(self, scale: float) -> None:
        """Gives all adapters one scale; 0 is CLIP."""
        for adapter in self._adapters:
            adapter.scale = scale

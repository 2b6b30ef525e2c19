"""How tokens lie in memory on their way through a tower: images as they are, texts without their padding.

Symbols: B images or texts, N and L places, T tokens of all texts together, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor


def end_of_text(tokens: Tensor) -> Tensor:
    """Find the end-of-text token, which has the highest id: (..., L) to positions (...)."""
    return tokens.argmax(dim=-1)


def trim_to_longest(tokens: Tensor, extra: int = 0) -> Tensor:
    """Cut a batch of texts after its longest one: (..., 77) to (..., L). Call it on host tensors.

    Args:
        tokens: token ids as `tokenize` gives them.
        extra: positions to keep after the last end-of-text token, for modules that look ahead.
    """
    if tokens.numel() == 0:
        return tokens
    return tokens[..., : int(end_of_text(tokens).max()) + 1 + extra]


class Layout:
    """How the tokens of a tower lie in memory, and which one of each sequence is pooled into its feature.

    Attributes:
        visible: which keys the pooled token sees, (B, 1, 1, N); None for all of them.
    """

    visible: Tensor | None = None

    def to_padded(self, x: Tensor) -> Tensor:
        """Lay the tokens out as (B, N, D)."""
        raise NotImplementedError

    def to_packed(self, x: Tensor) -> Tensor:
        """Undo `to_padded`."""
        raise NotImplementedError

    def pooled_tokens(self, x: Tensor) -> Tensor:
        """Pick the tokens whose last states become the features, (B, 1, D)."""
        raise NotImplementedError


class ImageLayout(Layout):
    """Images: (B, N, D), the class token first."""

    def to_padded(self, x: Tensor) -> Tensor:
        return x

    def to_packed(self, x: Tensor) -> Tensor:
        return x

    def pooled_tokens(self, x: Tensor) -> Tensor:
        return x[:, :1]


class _Pad(torch.autograd.Function):
    """Rows (T, D) to the places of a rectangle (B L, D), where padding repeats the row before it.

    What lies in the padding must reach no result, so that no gradient comes from there.
    """

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, *ctx.saved_tensors), None, None


@dataclass
class PackedText(Layout):
    """B texts without their padding, one after another: T tokens in all, none after an end of text.

    Attributes:
        tokens: token ids (T,).
        positions: position of each token in its text (T,).
        slots: place of each token in the flattened (B, L) rectangle of padded texts (T,).
        fillers: token that stands in each of those places (B L,): its own, or its text's end.
        ends: index of each text's end-of-text token (B,).
        visible: which of the L places hold a token, (B, 1, 1, L).
        rows: where each token's state lies in a table that an earlier pass filled (T,); None without one.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    fillers: Tensor
    ends: Tensor
    visible: Tensor
    rows: Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> "PackedText":
        """Copy to a device."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PackedText":
        """Copy to memory that a GPU fetches from by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "PackedText":
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return PackedText(**{name: None if part is None else function(part) for name, part in parts.items()})

    def to_padded(self, x: Tensor) -> Tensor:
        texts, _, _, length = self.visible.shape
        if len(self.slots) != texts * length:
            x = _Pad.apply(x, self.fillers, self.slots)
        return x.view(texts, length, -1)

    def to_packed(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).index_select(0, self.slots)

    def pooled_tokens(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.ends).unsqueeze(1)


def pack(text: Tensor) -> PackedText:
    """Take the padding out of token ids (B, 77). Call it on host tensors."""
    ends = end_of_text(text)  # (B,)
    text = text[:, : int(ends.max()) + 1]
    visible = torch.arange(text.shape[1]) <= ends[:, None]  # (B, L)
    slots = visible.flatten().nonzero().squeeze(1)
    return PackedText(
        tokens=text.flatten()[slots],
        positions=slots % text.shape[1],
        slots=slots,
        fillers=visible.flatten().cumsum(0) - 1,
        ends=(ends + 1).cumsum(0) - 1,
        visible=visible[:, None, None],
    )


Sent = TypeVar("Sent", Tensor, PackedText)


def send(x: Sent, device: torch.device) -> Sent:
    """Copy host tensors to a device, without waiting for a GPU to fetch them."""
    if device.type == "cuda":
        x = x.pin_memory()  # copies from other memory may wait for what the GPU has been asked before
    return x.to(device, non_blocking=True)

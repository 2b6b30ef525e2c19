"""Training from a table of what enters the first adapted text block: frozen blocks run once, not each step.

Across data sets HeBA adapts blocks 9 to 12 of 12, and prompts do not change: the first 8 give the same states
in each step. ``TRAIN.TEXT_CACHE_MB`` is the most memory that the table may take; 0 turns this off.

Symbols: P prompts, T tokens of all of them, D width of the text encoder.
"""

import logging

import torch
from torch import nn

from adapt.prompts import TOKENS_AT_ONCE, ClassPrompts
from clip.layout import PackedText
from clip.model import CLIP

logger = logging.getLogger(__name__)


class FrozenPrefix(nn.Module):
    """The first blocks of a text encoder, in the place of one block.

    Args:
        blocks: the blocks.
        states: ``(T, D)`` what they make of every prompt, on the model's device. Texts that know their rows
            in it (``ClassPrompts.take``) are looked up; all others are computed.
    """

    def __init__(self, blocks: nn.Sequential, states: torch.Tensor) -> None:
        super().__init__()
        self.blocks = blocks
        self.states = states

    def forward(self, x: torch.Tensor, layout: PackedText | None = None) -> torch.Tensor:
        if layout is not None and layout.rows is not None:
            return self.states.index_select(0, layout.rows)
        for block in self.blocks:
            x = block(x, layout)
        return x


@torch.no_grad()
def add_text_prefix(clip_model: CLIP, prompts: ClassPrompts, megabytes: float) -> None:
    """Puts a ``FrozenPrefix`` in the place of the frozen text blocks; call it in the autocast of the steps.

    Does nothing where no block is frozen, where a method does not pack its texts, or where the states would
    take more than ``megabytes`` (10^6 bytes) of the device's memory.
    """
    number = frozen_blocks(clip_model)
    if number == 0 or prompts.lookahead is not None:
        return
    encoder = clip_model.transformer
    total, dtype = int(prompts.lengths.sum()), clip_model.dtype  # of the residual stream
    size = total * encoder.width * dtype.itemsize / 1e6
    if size > megabytes:
        logger.info(
            "What enters text block %d would take %.0f MB, over TRAIN.TEXT_CACHE_MB %g: computed each step",
            *(number + 1, size, megabytes),
        )
        return
    logger.info("Computing once what enters text block %d: %.0f MB", number + 1, size)
    states = torch.empty(total, encoder.width, dtype=dtype, device=clip_model.logit_scale.device)
    for chosen in prompts.batches(TOKENS_AT_ONCE):
        texts = prompts.take(chosen).to(states.device)
        x = clip_model.embed_text(texts)
        for block in encoder.resblocks[:number]:
            x = block(x, texts)
        states[texts.rows] = x
    prefix = FrozenPrefix(encoder.resblocks[:number], states)
    encoder.resblocks = nn.Sequential(prefix, *encoder.resblocks[number:])


def remove_text_prefix(clip_model: CLIP) -> None:
    """Undoes ``add_text_prefix``, which may have done nothing."""
    first, *others = clip_model.transformer.resblocks
    if isinstance(first, FrozenPrefix):
        clip_model.transformer.resblocks = nn.Sequential(*first.blocks, *others)


def frozen_blocks(clip_model: CLIP) -> int:
    """Returns how many text blocks come before the first that learns; 0 if the embedding or none learns."""
    embeddings = [*clip_model.token_embedding.parameters(), clip_model.positional_embedding]
    if any(weight.requires_grad for weight in embeddings):
        return 0
    for number, block in enumerate(clip_model.transformer.resblocks):
        if any(weight.requires_grad for weight in block.parameters()):
            return number
    return 0

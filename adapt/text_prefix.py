"""The text encoder's frozen blocks, computed once for prompts that never change.

Symbols: P prompts, T tokens of all of them, D width of the text encoder.
"""

import logging
from dataclasses import dataclass

import torch

from adapt.prompts import TOKENS_AT_ONCE, ClassPrompts
from clip.layout import PackedText
from clip.model import CLIP

logger = logging.getLogger(__name__)


@dataclass
class TextPrefix:
    """The hidden states of every prompt that enter the first adapted block.

    Attributes:
        blocks: number of blocks they have passed.
        states: prompt after prompt without padding ``(T, D)``, on the model's device.
    """

    blocks: int
    states: torch.Tensor

    def enter(self, tokens: torch.Tensor | PackedText) -> tuple[torch.Tensor | None, int]:
        """States of packed prompts, and the block they enter; None and 0 of tokens that are not those."""
        if not isinstance(tokens, PackedText) or tokens.rows is None:
            return None, 0
        return self.states.index_select(0, tokens.rows), self.blocks


@torch.no_grad()
def compute_text_prefix(clip_model: CLIP, prompts: ClassPrompts, megabytes: float) -> TextPrefix | None:
    """Computes the frozen blocks for all prompts, so that training steps begin after them.

    Call it in the autocast of the steps.

    Returns:
        None where no block is frozen, where a method does not pack its texts, or where the states would take
        more than ``megabytes`` (10^6 bytes) of the device's memory.
    """
    blocks = frozen_blocks(clip_model)
    if blocks == 0 or prompts.lookahead is not None:
        return None
    total = int(prompts.lengths.sum())
    width, dtype = clip_model.transformer.width, clip_model.dtype  # of the residual stream
    size = total * width * dtype.itemsize / 1e6
    if size > megabytes:
        logger.info(
            "What enters text block %d would take %.0f MB, over TRAIN.TEXT_CACHE_MB %g: computed each step",
            *(blocks + 1, size, megabytes),
        )
        return None
    logger.info("Computing once what enters text block %d: %.0f MB", blocks + 1, size)
    states = torch.empty(total, width, dtype=dtype, device=clip_model.logit_scale.device)
    for chosen in prompts.batches(TOKENS_AT_ONCE):
        texts = prompts.take(chosen).to(states.device)
        x = clip_model.embed_text(texts)
        for block in clip_model.transformer.resblocks[:blocks]:
            x = block(x, texts)
        states[texts.rows] = x
    return TextPrefix(blocks, states)


def frozen_blocks(clip_model: CLIP) -> int:
    """Number of text blocks before the first one that learns; 0 where the embedding or no block learns."""
    embeddings = [*clip_model.token_embedding.parameters(), clip_model.positional_embedding]
    if any(weight.requires_grad for weight in embeddings):
        return 0
    for number, block in enumerate(clip_model.transformer.resblocks):
        if any(weight.requires_grad for weight in block.parameters()):
            return number
    return 0

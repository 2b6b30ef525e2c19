"""The text encoder's frozen blocks, computed once for prompts that never change.

Symbols: P prompts, T tokens of all of them, D width of the text encoder.
"""

import logging
from dataclasses import dataclass

import torch

from adapt.model import TOKENS_AT_ONCE, CustomCLIP
from clip.layout import PackedText, end_of_text, pack

logger = logging.getLogger(__name__)


@dataclass
class TextPrefix:
    """The hidden states of every prompt that enter the first adapted block.

    Attributes:
        blocks: number of blocks they have passed.
        states: prompt after prompt without padding ``(T, D)``, on the model's device.
        starts: row of each prompt's first token ``(P,)``, on the host.
    """

    blocks: int
    states: torch.Tensor
    starts: torch.Tensor

    def locate(self, texts: PackedText, chosen: torch.Tensor) -> None:
        """Notes in packed texts where their tokens' states lie; ``chosen`` ``(B,)`` are their prompts."""
        lengths = texts.ends.diff(prepend=texts.ends.new_tensor([-1]))  # (B,)
        texts.rows = self.starts[chosen].repeat_interleave(lengths) + texts.positions


@torch.no_grad()
def keep_text_prefix(model: CustomCLIP, megabytes: float) -> None:
    """Computes the frozen blocks for all prompts, so that training steps begin after them.

    Does nothing where no block is frozen, where a method does not pack its texts, or where the states would
    take more than ``megabytes`` (10^6 bytes) of the device's memory. Call it in the autocast of the steps.
    """
    blocks, prompts = frozen_blocks(model), model.prompts
    prompts.prefix = None
    if blocks == 0 or prompts.arrange is not pack:
        return
    lengths = end_of_text(prompts.tokens) + 1  # (P,)
    clip_model, total = model.clip, int(lengths.sum())
    width, dtype = clip_model.transformer.width, clip_model.dtype  # of the residual stream
    size = total * width * dtype.itemsize / 1e6
    if size > megabytes:
        logger.info(
            "What enters text block %d would take %.0f MB, over TRAIN.TEXT_CACHE_MB %g: computed each step",
            *(blocks + 1, size, megabytes),
        )
        return
    logger.info("Computing once what enters text block %d: %.0f MB", blocks + 1, size)
    states = torch.empty(total, width, dtype=dtype, device=clip_model.logit_scale.device)
    prefix = TextPrefix(blocks, states, lengths.cumsum(0) - lengths)
    for chosen in prompts.passes(TOKENS_AT_ONCE):
        texts = pack(prompts.tokens[chosen])
        prefix.locate(texts, chosen)
        texts = texts.to(states.device)
        x = clip_model.embed_text(texts)
        for block in clip_model.transformer.resblocks[:blocks]:
            x = block(x, texts)
        states[texts.rows] = x
    prompts.prefix = prefix


def frozen_blocks(model: CustomCLIP) -> int:
    """Number of text blocks before the first one that learns; 0 where the embedding learns."""
    clip_model = model.clip
    embeddings = [*clip_model.token_embedding.parameters(), clip_model.positional_embedding]
    if any(weight.requires_grad for weight in embeddings):
        return 0
    for number, block in enumerate(clip_model.transformer.resblocks):
        if any(weight.requires_grad for weight in block.parameters()):
            return number
    return 0

"""Weight files that store a part of the text tower's two tables; the other rows follow from a fixed formula.

A CLIP that was trained on few words need not carry rows for the others. Such a file has, beside OpenAI's
names, `token_ids` (V,): the ids whose rows `token_embedding.weight` (V, D) holds; and its
`positional_embedding` may have the first rows alone. What is absent is filled at the scale at which CLIP's
training starts (normal, standard deviation 0.02 for tokens, 0.01 for positions): a word that was never seen
means nothing, yet is not like another.

The formula is whole-number arithmetic, so every machine and every torch gives the same bits: row * D + column
(plus a constant for positions) is hashed to 32 bits, and the sum of the four bytes is shifted and scaled to
mean 0 and the standard deviation wanted, nearly a normal distribution.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from clip.architecture import VOCAB_SIZE

CONTEXT_LENGTH = 77
TOKEN_STD, POSITION_STD = 0.02, 0.01
POSITIONS_START = 1 << 31  # counters of positions start here, those of tokens at 0
BYTES_MEAN, BYTES_STD = 4 * 127.5, (4 * (256**2 - 1) / 12) ** 0.5  # of the sum of four uniform bytes
AT_ONCE = 512  # rows; so many stay in the processor's cache


def is_compact(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors are of such a file."""
    return "token_ids" in tensors


def expand(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors with both tables complete, under OpenAI's names alone.

    Raises:
        ValueError: a table is missing, or does not fit `token_ids`.
    """
    tensors = dict(tensors)
    ids = tensors.pop("token_ids").long()
    try:
        known, first = tensors["token_embedding.weight"], tensors["positional_embedding"]
    except KeyError as error:
        raise ValueError(f"{source}: has token_ids but no {error}: it is no compact CLIP file") from error
    in_range = ids.dim() == 1 and len(ids) > 0 and ids.min() >= 0 and ids.max() < VOCAB_SIZE
    if not in_range or known.shape[:1] != ids.shape or len(first) > CONTEXT_LENGTH:
        raise ValueError(
            f"{source}: token_ids {tuple(ids.shape)} do not fit token_embedding.weight {tuple(known.shape)} "
            f"and positional_embedding {tuple(first.shape)}: one id below {VOCAB_SIZE} a row, and at most "
            f"{CONTEXT_LENGTH} positions"
        )
    tokens = token_filler(torch.arange(VOCAB_SIZE), known.shape[1]).to(known.dtype)
    tokens[ids] = known
    positions = filler(torch.arange(CONTEXT_LENGTH), first.shape[1], POSITION_STD, POSITIONS_START)
    positions[: len(first)] = first
    return tensors | {"token_embedding.weight": tokens, "positional_embedding": positions.to(first.dtype)}


def unlearned_tokens(embedding: Tensor, tokens: Tensor) -> Tensor:
    """List the token ids whose row is the formula's: the model was never trained on them.

    Args:
        embedding: `token_embedding.weight` (vocabulary, D) of a model.
        tokens: ids of any shape.

    Returns:
        Ascending ids; none for a CLIP whose file was complete.
    """
    ids = tokens.unique().long()
    rows = embedding.detach()[ids.to(embedding.device)].cpu().half()
    return ids[(rows == token_filler(ids, embedding.shape[1]).half()).all(-1)]


def token_filler(ids: Tensor, width: int) -> Tensor:
    """Compute the rows (N, width) of token ids (N,), float32."""
    return filler(ids, width, TOKEN_STD)


def filler(rows: Tensor, width: int, std: float, start: int = 0) -> Tensor:
    """Compute rows (N,) of a table of the given width and standard deviation: (N, width), float32."""
    parts = []
    for some in rows.split(AT_ONCE):
        bits = hash_32(start + some[:, None] * width + torch.arange(width))
        total = sum((bits >> shift) & 0xFF for shift in (0, 8, 16, 24))
        parts.append(((total.double() - BYTES_MEAN) * (std / BYTES_STD)).float())
    return torch.cat(parts)


def hash_32(numbers: Tensor) -> Tensor:
    """Mix the low 32 bits of int64 numbers; the factor has 27 bits, so nothing overflows 63."""
    x = numbers & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x

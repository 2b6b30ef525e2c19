"""``MODEL.COMPILE``: both encoders by torch.compile, block by block.

Not a whole encoder, because slow-fast training draws each block's scale anew: blocks of one kind share their
code, so a tower needs it for slow and for fast blocks, and not for every draw.
"""

from typing import Any

import torch
import torch._dynamo

from clip.model import CLIP

# Kinds of blocks that share one piece of Python: tower, scale, training or evaluation, first block or later,
# texts with or without padding, sizes of image batches. torch's own limit is 8; the next ones run uncompiled.
MOST_KINDS = 64


def compile_encoders(clip_model: CLIP, **options: Any) -> None:
    """Compiles the blocks of both transformers in place; names of weights stay as they are.

    Text blocks take any number of tokens; image blocks are compiled for each batch size.

    Args:
        clip_model: with its adapters attached.
        options: of ``torch.compile``.

    Raises:
        ValueError: this torch is too old.
    """
    if not hasattr(torch._dynamo.config, "recompile_limit"):
        raise ValueError(
            f"MODEL.COMPILE needs torch 2.7 or newer, but this is {torch.__version__}: set it to False"
        )
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_KINDS)
    towers = [(clip_model.transformer, True)]
    if hasattr(clip_model.visual, "transformer"):  # a ResNet is left as it is
        towers.append((clip_model.visual.transformer, False))
    for tower, dynamic in towers:
        for block in tower.resblocks:
            block.compile(dynamic=dynamic, **options)

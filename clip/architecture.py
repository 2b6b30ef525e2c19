"""What a CLIP's tensors tell about it: constructor arguments, and whether all of them fit."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fileio.tensors import tensor_problems

VOCAB_SIZE = 49408

# ViTs of open_clip whose attention heads are not 64 channels wide: {width: (name, channels of a head)}.
OTHER_HEAD_WIDTHS = {1280: ("ViT-H", 80), 1408: ("ViT-g", 88), 1664: ("ViT-bigG", 104), 1792: ("ViT-e", 112)}


def architecture(state_dict: Mapping[str, Tensor], source: str = "state dict") -> dict[str, Any]:
    """Read the arguments of `clip.model.CLIP` off the tensors' shapes.

    Raises:
        ValueError: tensors that tell the shape are missing, or tell of a model that is not supported.
    """

    def shape(name: str, dims: int) -> torch.Size:
        if name not in state_dict:
            raise ValueError(
                f'{source}: no CLIP weights, "{name}" is missing; it holds {_some(state_dict) or "nothing"}'
            )
        if state_dict[name].dim() != dims:
            raise ValueError(
                f'{source}: "{name}" has shape {tuple(state_dict[name].shape)}, not {dims} dimensions'
            )
        return state_dict[name].shape

    def count(stack: str) -> int:
        indices = [re.match(re.escape(stack) + r"\.(\d+)\.", name) for name in state_dict]
        return max((int(found[1]) + 1 for found in indices if found), default=0)

    transformer_width, embed_dim = shape("text_projection", 2)
    vocab_size = shape("token_embedding.weight", 2)[0]
    if transformer_width % 64:
        raise ValueError(
            f"{source}: text tower of width {transformer_width}, not a multiple of 64 (one head)"
        )
    if vocab_size > VOCAB_SIZE:
        raise ValueError(
            f"{source}: {vocab_size} token ids, CLIP's tokenizer has {VOCAB_SIZE}: this text tower needs a "
            "tokenizer that is not here, take weights that use CLIP's"
        )
    if "visual.proj" in state_dict:
        vision_width, _, _, patch_size = shape("visual.conv1.weight", 4)
        positions = shape("visual.positional_embedding", 2)[0]
        vision_layers: int | tuple[int, ...] = count("visual.transformer.resblocks")
        cell = patch_size
        if vision_width in OTHER_HEAD_WIDTHS:
            name, head = OTHER_HEAD_WIDTHS[vision_width]
            raise ValueError(
                f"{source}: image tower of width {vision_width}: {name} has heads of {head} channels, "
                "only heads of 64 are supported: take a ViT-B or ViT-L"
            )
        if vision_width % 64:
            raise ValueError(
                f"{source}: image tower of width {vision_width}, not a multiple of 64 (one head)"
            )
    elif "visual.layer1.0.conv1.weight" in state_dict:
        vision_width = shape("visual.layer1.0.conv1.weight", 4)[0]
        positions = shape("visual.attnpool.positional_embedding", 2)[0]
        vision_layers = tuple(count(f"visual.layer{stage}") for stage in (1, 2, 3, 4))
        patch_size, cell = None, 32
    else:
        raise ValueError(
            f'{source}: the image tower has neither "visual.proj" (ViT) nor "visual.layer1.0.conv1.weight" '
            f"(ResNet), other towers are not supported; it holds {_some(state_dict)}"
        )
    grid = round((positions - 1) ** 0.5)
    if grid**2 + 1 != positions:
        raise ValueError(f"{source}: {positions} image positions are not a square grid and one class token")
    return {
        "embed_dim": embed_dim,
        "image_resolution": cell * grid,
        "vision_layers": vision_layers,
        "vision_width": vision_width,
        "vision_patch_size": patch_size,
        "context_length": shape("positional_embedding", 2)[0],
        "vocab_size": vocab_size,
        "transformer_width": transformer_width,
        "transformer_heads": transformer_width // 64,
        "transformer_layers": count("transformer.resblocks"),
    }


def check_tensors(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Compare names, shapes and types of a state dict with a model's, and look for numbers that are none.

    Raises:
        ValueError: names what is missing, unexpected, misshapen, not of floating point, infinite or NaN.
    """
    problems = tensor_problems(given, wanted)
    bad = problems.pop("with NaN or infinity", [])
    if problems:
        text = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items())
        raise ValueError(f"{source}: the tensors do not fit the CLIP that their shapes describe; {text}")
    if bad:
        raise ValueError(f"{source}: NaN or infinity in {_some(bad)}: fetch or convert the weights again")


def check_image(image: Tensor, resolution: int) -> None:
    """Raise ValueError unless the images are (B, 3, resolution, resolution)."""
    if image.dim() != 4 or image.shape[1:] != (3, resolution, resolution):
        raise ValueError(
            f"image tensor has shape {tuple(image.shape)}, this CLIP takes "
            f"(B, 3, {resolution}, {resolution}): resize the images to that"
        )


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Loading a method's tensors, all of them or none."""

from pathlib import Path

import torch
from torch import nn

# Buffers that published code stores among the weights; they follow from the classes, not from training.
DERIVED = ("tk_prompts", "text_features_for_inference", "token_prefix", "token_suffix")


def load_strictly(module: nn.Module, state_dict: dict[str, torch.Tensor], source: Path) -> None:
    """Loads a state dict whose tensors must all be there, be expected, have the right shape and be finite."""
    expected = module.state_dict()
    given = {name: tensor for name, tensor in state_dict.items() if name not in DERIVED}
    problems = [f"missing {name}" for name in expected if name not in given]
    problems += [f"unexpected {name}" for name in given if name not in expected]
    problems += [
        f"{name} has shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems += [
        f"{name} is of {tensor.dtype}"
        for name, tensor in given.items()
        if name in expected and expected[name].is_floating_point() and not tensor.is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise ValueError(
            f'"{source}" does not fit this configuration: {shown}; '
            "use the backbone and the adapter settings that it was trained with"
        )
    if bad := [name for name, tensor in given.items() if not tensor.isfinite().all()]:
        raise ValueError(
            f'"{source}" holds NaN or infinity, in {len(bad)} of its tensors, the first is {bad[0]}; '
            "train again"
        )
    module.load_state_dict(given)

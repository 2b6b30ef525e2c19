"""Golden numbers of published code on a tiny random CLIP: inputs, parameters, comparisons.

Their inputs follow from formulas; tests/data holds what the published code made of them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from adapt.method import Method, build_model
from adapt.model import CustomCLIP
from adapt.prompts import NO_DATA_SET, ClassPrompts, ClassTexts
from clip.model import CLIP
from clip.model import build_model as build_clip
from dassl.config import get_cfg_default
from runner.config import extend_cfg
from tests.data.shrink_goldens import SAMPLES, summary
from trainers.clip_trainer import ClipTrainer

DATA = Path(__file__).parent / "data"
CLASSES = [
    *("accordion", "airplane", "anchor", "ant", "barrel", "bass"),
    *("beaver", "binocular", "bonsai", "brain", "brontosaurus", "buddha"),
]
LABELS = torch.tensor([3, 7, 3, 0, 11, 7])
NEAR = {"rtol": 0, "atol": 2e-5}  # logits and features
LOSS = {"rtol": 0, "atol": 1e-5}
GRADIENT = 5e-5  # relative L2 distance of a tensor


def goldens(name: str) -> dict[str, torch.Tensor]:
    """The arrays of a method's file."""
    arrays = np.load(DATA / f"{name}_tiny.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays}


def golden_images() -> torch.Tensor:
    """The six images ``(6, 3, 32, 32)``."""
    index = np.arange(6 * 3 * 32 * 32, dtype=np.int64)
    flat = 1.5 * np.sin(0.1 * ((index * 104729) % 100003))
    return torch.from_numpy(flat).reshape(6, 3, 32, 32).float()


def formula(shape: torch.Size, amplitude: float, phase: float) -> torch.Tensor:
    """The parameters: amp * sin(phase + 0.1 * ((i * 7919) mod 10007)), i over the flat tensor."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    return torch.from_numpy(amplitude * np.sin(phase + 0.1 * ((index * 7919) % 10007))).reshape(shape).float()


def fill(learner: nn.Module, values: dict[str, tuple[float, float]]) -> dict[str, nn.Parameter]:
    """Gives every weight the goldens' numbers, by (amplitude, phase); returns the weights."""
    learned = dict(learner.named_parameters())
    assert learned.keys() == values.keys()
    for name, weight in learned.items():
        weight.data.copy_(formula(weight.shape, *values[name]))
    return learned


def tiny_clip_weights() -> dict[str, torch.Tensor]:
    """The random CLIP; vocabulary rows that no case uses are zero."""
    arrays = dict(np.load(DATA / "tiny_clip.npz"))
    rows, values = arrays.pop("token_embedding.rows"), arrays.pop("token_embedding.values")
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    table = torch.zeros(49408, values.shape[1], dtype=torch.from_numpy(values).dtype)
    table[torch.from_numpy(rows)] = torch.from_numpy(values)
    return weights | {"token_embedding.weight": table}


def same_gradients(
    learned: dict[str, nn.Parameter],
    expected: dict[str, torch.Tensor],
    case: str,
    tolerance: float = GRADIENT,
) -> None:
    """Gradients by the relative distance of the whole tensor, or by summary."""
    prefix = f"{case}/grad/"
    assert learned.keys() == {name.removeprefix(prefix) for name in expected if name.startswith(prefix)}
    for name, weight in learned.items():
        there = expected[prefix + name]
        if there.shape == weight.shape:
            assert (weight.grad - there).norm() <= tolerance * there.norm(), name
            continue
        found, size, near = (
            torch.from_numpy(summary(weight.grad.numpy())),
            weight.numel(),
            tolerance * there[0],
        )
        assert abs(found[0] - there[0]) <= near, name
        assert abs(found[1] - there[1]) <= near * size**0.5, name
        assert (found[2:] - there[2:]).norm() <= 2 * near * (SAMPLES / size) ** 0.5, name


def options(trainer: type[ClipTrainer], **values: object) -> CfgNode:
    """A configuration with values for a method's own options."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.TRAINER[trainer.options_name].update({"PREC": "fp32"} | values)
    return cfg


def method(trainer: type[ClipTrainer], texts: ClassTexts = NO_DATA_SET, **values: object) -> Method:
    """A trainer's method with values for its options."""
    cfg = options(trainer, **values)
    return trainer.method.from_options(cfg.TRAINER[trainer.options_name], texts)


def build(
    trainer: type[ClipTrainer],
    classnames: Sequence[str] = CLASSES,
    backbone: CLIP | None = None,
    *,
    prompts: Sequence[Sequence[str]] | ClassPrompts | None = None,
    texts: ClassTexts = NO_DATA_SET,
    **values: object,
) -> CustomCLIP:
    """The tiny CLIP, or another one, with a trainer's method, as it is before training."""
    own = options(trainer, **values).TRAINER[trainer.options_name]
    backbone = build_clip(tiny_clip_weights()) if backbone is None else backbone
    torch.manual_seed(0)
    return build_model(trainer.method, own, classnames, backbone, texts=texts, prompts=prompts).eval()

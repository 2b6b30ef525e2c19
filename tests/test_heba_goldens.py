"""HeBA against numbers of the published code (VLM-HeBA at 60ecf23) on a tiny random CLIP, in float32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.attach import SlowFastLearner
from adapt.method import Batch
from adapt.model import CustomCLIP
from adapt.prompts import ClassPrompts
from clip.layout import pack
from tests.data.shrink_goldens import SAMPLES, summary
from tests.goldens import build, formula
from trainers.heba import HeBA

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
GRADIENT = 1e-5  # relative L2 distance of a tensor


def fill(learner: SlowFastLearner) -> None:
    """Gives every adapter tensor the goldens' numbers."""
    shapes = {
        "down.weight": (0.06, 0.0),
        "mid.weight": (0.30, 0.1),
        "up.weight": (0.08, 0.2),
        "norm.weight": (0.20, 0.3),
        "norm.bias": (0.10, 0.4),
    }
    for name, weight in learner.named_parameters():
        encoder, layer, place, *rest = name.split(".")
        amplitude, offset = shapes[".".join(rest)]
        phase = int(layer) + 20 * (encoder == "visual_adapter") + 0.5 * (place == "mlp_conv") + offset
        weight.data.copy_(formula(weight.shape, amplitude, phase) + (rest == ["norm", "weight"]))


@pytest.fixture(scope="module", params=["summaries", "complete"])
def folder(request: pytest.FixtureRequest) -> Path:
    """tests/data, where large tensors are summaries, and the complete goldens where they are at hand."""
    if request.param == "summaries":
        return Path(__file__).parent / "data"
    return request.getfixturevalue("assets") / "goldens"


@pytest.fixture(scope="module")
def goldens(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "heba_tiny.npz"))


@pytest.fixture(scope="module")
def model(goldens: dict[str, np.ndarray]) -> CustomCLIP:
    tokens = torch.from_numpy(goldens["tk_prompts"])
    model = build(HeBA, prompts=ClassPrompts(tokens.flatten(0, 1), torch.full((12,), 20)), ADAPTER_END=4)
    fill(model.adapter_learner)
    return model


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    """Features and logits: entry by entry, or by summary."""
    if expected.shape == found.shape:
        torch.testing.assert_close(found.detach(), torch.from_numpy(expected), **CLOSE)
    else:
        same_summary(found, expected, "output")


def same_gradient(found: torch.Tensor, expected: np.ndarray, name: str) -> None:
    """Gradients: by the relative distance of the whole tensor, or by summary."""
    if expected.shape != found.shape:
        same_summary(found, expected, name)
        return
    expected = torch.from_numpy(expected)
    distance = (found - expected).norm() / expected.norm() if expected.any() else found.norm()
    assert distance <= GRADIENT, f"{name}: relative L2 distance {distance:.2e}"


def same_summary(found: torch.Tensor, expected: np.ndarray, name: str) -> None:
    """Norm, sum and sampled entries within what a relative L2 distance of the whole tensor allows."""
    values = found.detach().numpy()
    here, tolerance, size = summary(values), GRADIENT * expected[0], values.size
    assert abs(here[0] - expected[0]) <= tolerance, name
    assert abs(here[1] - expected[1]) <= tolerance * size**0.5, name
    assert np.linalg.norm(here[2:] - expected[2:]) <= 2 * tolerance * (SAMPLES / size) ** 0.5 + 1e-12, name


@pytest.mark.parametrize("place", ["att_conv", "mlp_conv"])
@pytest.mark.parametrize("encoder", ["visual", "text"])
@pytest.mark.parametrize("scale", [0.025, 0.5])
def test_one_adapter_gives_published_output_and_gradients(
    folder: Path, model: CustomCLIP, encoder: str, place: str, scale: float
) -> None:
    units = np.load(folder / "heba_unit.npz")
    case = f"{encoder}.2.{place}"
    adapter = getattr(model.adapter_learner, f"{encoder}_adapter")["2"][place]
    adapter.zero_grad(set_to_none=True)
    adapter.scale = scale
    x = torch.from_numpy(units[f"{case}/x"]).transpose(0, 1).contiguous().requires_grad_()  # (B, N, d)
    y = adapter(x)
    y.backward(torch.from_numpy(units[f"{case}/dy"]).transpose(0, 1))
    close(y.transpose(0, 1), units[f"{case}.s{scale}/y"])
    same_gradient(x.grad.transpose(0, 1), units[f"{case}.s{scale}/dx"], "x")
    for name, weight in adapter.named_parameters():
        same_gradient(weight.grad, units[f"{case}.s{scale}/grad/{name}"], name)


@pytest.mark.parametrize(("case", "scale"), [("eval_base", 0.025), ("eval_novel", 0.010)])
def test_evaluation_gives_published_features_and_logits(
    model: CustomCLIP, goldens: dict[str, np.ndarray], case: str, scale: float
) -> None:
    model.eval()
    model.adapter_learner.set_scale(scale)
    images = torch.from_numpy(goldens["images"])
    with torch.no_grad():
        first = torch.from_numpy(goldens["tk_prompts"][:, 0])
        close(model.clip.encode_text(first), goldens[f"{case}/text_features_template0_raw"])
        close(model.clip.encode_image(images), goldens[f"{case}/image_features_raw"])
        close(model.text_features(), goldens[f"{case}/text_features_mean_normalized"])
        close(model(images), goldens[f"{case}/logits"])


def test_scale_zero_gives_published_clip_without_adapters(
    model: CustomCLIP, goldens: dict[str, np.ndarray]
) -> None:
    model.adapter_learner.set_scale(0)
    with torch.no_grad():
        close(
            model.clip.encode_image(torch.from_numpy(goldens["images"])), goldens["clip_noadapter/image_raw"]
        )


@pytest.mark.parametrize("lay_out", [lambda tokens: tokens, pack], ids=["padded", "packed"])
@pytest.mark.parametrize("case", ["train_slow", "train_fast", "train_neg2"])
def test_training_step_gives_published_logits_loss_and_every_gradient(
    model: CustomCLIP, goldens: dict[str, np.ndarray], case: str, lay_out: Callable
) -> None:
    model.zero_grad(set_to_none=True)
    learner = model.adapter_learner.train()
    learner.slow_fast_ratio = 0.0 if case == "train_fast" else 1.0
    images = torch.from_numpy(goldens["images"])[: len(goldens[f"{case}/label_in"])]
    tokens, label = (torch.from_numpy(goldens[f"{case}/{name}"]) for name in ("tokens", "label_out"))
    with learner.drawn_scales():
        for encoder in ("text", "visual"):
            scales = [block["att_conv"].scale for block in getattr(learner, f"{encoder}_adapter").values()]
            np.testing.assert_allclose(scales, goldens[f"{case}/scales_{encoder}"], rtol=1e-7)
        logits = model(images, lay_out(tokens))
    loss, _ = model.method.loss(model, Batch(images, lay_out(tokens), label))
    loss.backward()
    close(logits, goldens[f"{case}/logits"])
    close(loss, goldens[f"{case}/loss"])
    gradients = {name: weight.grad for name, weight in learner.named_parameters()}
    published = {
        name.removeprefix(f"{case}/grad/"): value
        for name, value in goldens.items()
        if name.startswith(f"{case}/grad/")
    }
    assert gradients.keys() == published.keys()
    for name, gradient in gradients.items():
        same_gradient(gradient, published[name], name)
    assert all(weight.grad is None for name, weight in model.clip.named_parameters() if "adapter" not in name)

"""The adapter with its gradient written out computes what the plain one does."""

import pytest
import torch

from adapt.method import build_model
from clip.model import build_model as build_clip
from tests.test_heba import CLASSES, options
from trainers.heba import Bottleneck, HeBA, TextBottleneck, VisualBottleneck

KINDS = [TextBottleneck, VisualBottleneck]
WIDTH, HIDDEN = 32, 8


def adapter(kind: type[Bottleneck], dtype: torch.dtype = torch.float32) -> Bottleneck:
    torch.manual_seed(0)
    made = kind(WIDTH, HIDDEN, 3).to(dtype)
    for weight in made.norm.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    made.scale = 0.3
    return made


def run(compute: object, made: Bottleneck, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output, and the gradients of the input and of every weight."""
    made.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = compute(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    return y.detach(), [x.grad, *(weight.grad for weight in made.parameters())]


@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_equal_the_plain_adapter(kind: type[Bottleneck]) -> None:
    made, x = adapter(kind, torch.float64), torch.randn(2, 17, WIDTH, dtype=torch.float64)
    plain, fused = run(made.plain, made, x), run(made.compute, made, x)
    torch.testing.assert_close(plain, fused)
    with torch.no_grad():
        torch.testing.assert_close(made(x), plain[0])
    made.fused = False
    assert all(map(torch.equal, (found := run(made, made, x))[1], plain[1]))
    assert torch.equal(found[0], plain[0])


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_agrees_with_float32(kind: type[Bottleneck]) -> None:
    made, x = adapter(kind), torch.randn(2, 17, WIDTH)
    expected, gradients = run(made.plain, made, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, half = run(made, made, x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
    for a, b in zip(gradients, half, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).norm() <= 0.03 * a.norm()


def test_the_class_token_gets_its_own_gradient_alone() -> None:
    made, x = adapter(VisualBottleneck), torch.randn(2, 17, WIDTH, requires_grad=True)
    y = made(x)
    assert torch.equal(y[:, 0], x[:, 0])
    y[:, 0].sum().backward()
    assert torch.equal(x.grad[:, 0], torch.ones(2, WIDTH))
    assert not x.grad[:, 1:].any()
    assert not any(weight.grad.any() for weight in made.parameters())


def test_an_input_without_gradient_gets_none() -> None:
    made = adapter(TextBottleneck)
    made(torch.randn(2, 5, WIDTH)).sum().backward()
    assert all(weight.grad is not None for weight in made.parameters())


def test_unreached_weights_of_the_last_image_block_get_zero_and_still_decay(tiny_clip_path: str) -> None:
    clip_model = build_clip(torch.load(tiny_clip_path, weights_only=True)).float()
    model = build_model(HeBA.method, options(), CLASSES, clip_model, prompts=[[name] for name in CLASSES])
    learner = model.adapter_learner
    optim = torch.optim.SGD(learner.parameters(), lr=0.1, weight_decay=0.5)
    dead = learner.visual_adapter[max(learner.visual_adapter, key=int)]["mlp_conv"].up.weight
    before = dead.detach().clone()
    with learner.train().drawn_scales():
        model(torch.randn(2, 3, 32, 32), model.prompts.draw(torch.arange(4))).sum().backward()
    assert not dead.grad.any()
    optim.step()
    torch.testing.assert_close(dead.detach(), before * (1 - 0.1 * 0.5))

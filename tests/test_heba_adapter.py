"""HeBA's adapter alone: its gradient rule, the class token, half precision, weights that nothing reaches."""

import pytest
import torch

from adapt.method import build_model
from clip.model import build_model as build_clip
from tests.test_heba import CLASSES, options
from trainers.heba import Bottleneck, HeBA, TextBottleneck, VisualBottleneck

WIDTH, HIDDEN, SCALE = 32, 8, 0.3


def text() -> Bottleneck:
    return TextBottleneck(WIDTH, HIDDEN)


def visual() -> Bottleneck:
    return VisualBottleneck(WIDTH, HIDDEN, 3)


def adapter(make: object, dtype: torch.dtype = torch.float32) -> Bottleneck:
    torch.manual_seed(0)
    made = make().to(dtype)
    for weight in made.norm.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    made.scale = SCALE
    return made


def run(compute: object, made: Bottleneck, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output, and the gradients of the input and of every weight."""
    made.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = compute(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    return y.detach(), [x.grad, *(weight.grad for weight in made.parameters())]


@pytest.mark.parametrize("make", [text, visual])
def test_weights_learn_as_if_the_scale_were_1_and_the_input_does_not(make: object) -> None:
    made, x = adapter(make, torch.float64), torch.randn(2, 17, WIDTH, dtype=torch.float64)

    def at_scale(s: float) -> object:
        if make is text:
            return lambda x: x + s * made.bottleneck(x)
        return lambda x: torch.cat([x[:, :1], x[:, 1:] + s * made.bottleneck(x[:, 1:])], dim=1)

    y, (into_x, *gradients) = run(made, made, x)
    expected, (into_x_exact, *_) = run(at_scale(SCALE), made, x)
    _, (_, *at_one) = run(at_scale(1), made, x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(into_x, into_x_exact)
    torch.testing.assert_close(gradients, at_one)


@pytest.mark.parametrize("make", [text, visual])
def test_bfloat16_agrees_with_float32(make: object) -> None:
    made, x = adapter(make), torch.randn(2, 17, WIDTH)
    expected, gradients = run(made, made, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, half = run(made, made, x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
    for a, b in zip(gradients, half, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).norm() <= 0.03 * a.norm()


def test_the_class_token_gets_its_own_gradient_alone() -> None:
    made, x = adapter(visual), torch.randn(2, 17, WIDTH, requires_grad=True)
    y = made(x)
    assert torch.equal(y[:, 0], x[:, 0])
    y[:, 0].sum().backward()
    assert torch.equal(x.grad[:, 0], torch.ones(2, WIDTH))
    assert not x.grad[:, 1:].any()
    assert not any(weight.grad.any() for weight in made.parameters())


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

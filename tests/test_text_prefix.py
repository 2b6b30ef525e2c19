"""Blocks before the first adapted one keep nothing for backward, and prompts go through them once."""

import logging
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

import train
from adapt.method import build_model
from adapt.model import CustomCLIP
from adapt.precision import PRECISIONS
from adapt.text_prefix import FrozenPrefix, add_text_prefix, frozen_blocks, remove_text_prefix
from clip.model import build_model as build_clip
from tests.test_heba import CLASSES, options
from tests.test_train import command, weights
from trainers.heba import HeBA

START = 3  # first adapted block of 4


@pytest.fixture
def model(tiny_clip_path: Path) -> CustomCLIP:
    torch.manual_seed(1)
    clip_model = build_clip(torch.load(tiny_clip_path, weights_only=True)).float()
    prompts = [[f"a photo of a {name}.", f"a photo of a {name}, which is far longer."] for name in CLASSES]
    return build_model(HeBA.method, options(ADAPTER_START=START), CLASSES, clip_model, prompts=prompts)


def step(model: CustomCLIP, precision: str = "fp32") -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a training step with drawn prompts and scales, the same in each call."""
    model.zero_grad(set_to_none=True)
    model.adapter_learner.train()
    torch.manual_seed(2)
    image, tokens = torch.randn(4, 3, 32, 32), model.prompts.draw(torch.tensor([2, 0, 3, 1]))
    with model.adapter_learner.drawn_scales(), PRECISIONS[precision].autocast(image.device):
        loss = F.cross_entropy(model(image, tokens), torch.arange(4))
    loss.backward()
    return loss.detach(), [weight.grad for weight in model.adapter_learner.parameters()]


def test_nothing_before_the_first_adapted_block_is_kept_for_the_backward_pass(model: CustomCLIP) -> None:
    kept: list[torch.Tensor] = []
    outputs: list[tuple[int, bool, int]] = []
    towers = model.clip.transformer, model.clip.visual.transformer
    for tower in towers:
        for number, block in enumerate(tower.resblocks[:-1], start=1):
            block.register_forward_hook(
                lambda _, __, x, number=number: outputs.append((number, x.requires_grad, len(kept)))
            )
    for encode in (
        lambda: model.encode_text(model.prompts.draw(torch.arange(4))),
        lambda: model.encode_image(torch.randn(2, 3, 32, 32)),
    ):
        kept.clear()
        outputs.clear()
        with saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            encode()
        assert [number for number, _, _ in outputs] == [1, 2, 3]
        for number, learns, count in outputs:
            assert learns == (number >= START)
            assert (count > 0) == (number >= START)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_steps_from_the_kept_states_have_the_same_loss_and_gradients(
    model: CustomCLIP, precision: str, tolerance: float
) -> None:
    PRECISIONS[precision].store(model.clip)
    model.adapter_learner.float()
    expected = step(model, precision)
    called: list[int] = []
    for number, block in enumerate(model.clip.transformer.resblocks[:-1], start=1):
        block.register_forward_hook(lambda *_, number=number: called.append(number))
    with PRECISIONS[precision].autocast(torch.device("cpu")):
        add_text_prefix(model.clip, model.prompts, 1.0)
    assert len(model.clip.transformer.resblocks[0].blocks) == START - 1
    called.clear()
    loss, gradients = step(model, precision)
    assert called == [3]
    torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=tolerance)
    assert len(gradients) == len(expected[1])
    for found, wanted in zip(gradients, expected[1], strict=True):
        assert (found - wanted).norm() <= tolerance * wanted.norm() + 1e-8
    called.clear()
    remove_text_prefix(model.clip)
    step(model, precision)
    assert called == [1, 2, 3]


def test_states_over_the_budget_are_not_kept(model: CustomCLIP, caplog: pytest.LogCaptureFixture) -> None:
    tokens = int((model.prompts.tokens.argmax(-1) + 1).sum())
    size = tokens * 128 * 4 / 1e6
    with caplog.at_level(logging.INFO):
        add_text_prefix(model.clip, model.prompts, 0.99 * size)
    assert "TRAIN.TEXT_CACHE_MB" in caplog.text
    blocks = model.clip.transformer.resblocks
    assert not any(isinstance(block, FrozenPrefix) for block in blocks)
    add_text_prefix(model.clip, model.prompts, 1.01 * size)
    assert model.clip.transformer.resblocks[0].states.nbytes == pytest.approx(size * 1e6)
    remove_text_prefix(model.clip)
    assert list(model.clip.transformer.resblocks) == list(blocks)


def test_a_prefix_ends_where_anything_learns(model: CustomCLIP) -> None:
    assert frozen_blocks(model.clip) == START - 1
    model.clip.transformer.resblocks[1].ln_2.bias.requires_grad_()
    assert frozen_blocks(model.clip) == 1
    model.clip.positional_embedding.requires_grad_()
    assert frozen_blocks(model.clip) == 0


def test_training_with_and_without_kept_states_ends_alike(
    tmp_path: Path, toy_data: Path, toy_flags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ends = {}
    for budget in ("0", "1"):
        opts = [*toy_flags, "TRAINER.HeBA.ADAPTER_START", str(START), "OPTIM.MAX_EPOCH", "1"]
        with caplog.at_level(logging.INFO):
            train.main(command(toy_data, tmp_path / budget, [*opts, "TRAIN.TEXT_CACHE_MB", budget]))
        ends[budget] = weights(tmp_path / budget, 1)
        assert ("Computing once what enters text block 3" in caplog.text) == (budget == "1")
    for name, weight in ends["0"].items():
        torch.testing.assert_close(ends["1"][name], weight, rtol=1e-4, atol=1e-5)

"""Every key for ablations does what its comment says, and its default is the published adapter."""

import math
from pathlib import Path

import pytest
import torch

from adapt.attach import SlowFastLearner
from clip.model import build_model
from tests.test_heba import adapters, options
from trainers.heba import Bottleneck, HeBA, HeterogeneousBottlenecks, TextBottleneck, VisualBottleneck
from trainers.heba_ablations import CHOICES, Ablation, ConvVariant, TextVariant, Variant

WIDTH, HIDDEN = 32, 8
ALL_CHOICES = CHOICES | {"ADAPTER_PLACES": ("both", "attention", "mlp")}


def made(kind: type[Bottleneck], width: int = WIDTH, hidden: int = HIDDEN) -> Bottleneck:
    return kind(width, hidden, 3) if issubclass(kind, VisualBottleneck) else kind(width, hidden)


def varied(kind: type[Variant], width: int = WIDTH, hidden: int = HIDDEN, **values: object) -> Variant:
    """An adapter as the options have it, also where these ask for no variant."""
    return Ablation(options(**values)).vary(made(kind, width, hidden))


def tokens() -> torch.Tensor:
    return torch.randn(2, 17, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)


def twins(published: type, variant: type, **values: object) -> tuple:
    """A published adapter and a varied one with the same weights, at scale 0.1."""
    one, other = made(published), varied(variant, **values)
    other.load_state_dict(one.state_dict(), strict=values.get("NORM") != "none")
    one.scale = other.scale = 0.1
    return one, other


PAIRS = [(TextBottleneck, TextVariant), (VisualBottleneck, ConvVariant)]


def test_defaults_are_the_published_adapters() -> None:
    found = HeBA.method.from_options(options())
    assert type(found) is HeterogeneousBottlenecks
    kinds: list[type[Bottleneck]] = [type(found.text_adapter(WIDTH)), type(found.visual_adapter(WIDTH))]
    assert kinds == [TextBottleneck, VisualBottleneck]


@pytest.mark.parametrize(("published", "variant"), PAIRS)
def test_variants_with_published_options_compute_the_same(published: type, variant: type) -> None:
    one, other = twins(published, variant)
    assert torch.equal(one(tokens()), other(tokens()))


@pytest.mark.parametrize(("published", "variant"), PAIRS)
def test_exact_gradient_is_the_published_one_times_the_scale_for_weights_alone(
    published: type, variant: type
) -> None:
    one, other = twins(published, variant, GRADIENT_RULE="exact")
    x, y = tokens(), tokens()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    outputs = one(x), other(y)
    torch.testing.assert_close(*outputs)
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(0.1 * a.grad, b.grad)


@pytest.mark.parametrize(("norm", "identity"), [("residual", False), ("update", True), ("none", True)])
def test_zero_initialisation_starts_from_clip_unless_the_norm_is_over_the_residual(
    norm: str, identity: bool
) -> None:
    for _, variant in PAIRS:
        adapter = varied(variant, NORM=norm, INIT="zero")
        adapter.scale = 0.1
        assert torch.equal(adapter(tokens()), tokens()) == identity


def test_norm_places_compute_what_they_say() -> None:
    for norm in ("residual", "update", "none"):
        one, other = twins(TextBottleneck, TextVariant, NORM=norm)
        x = tokens()
        u = one.update(x)
        expected = {"residual": one.norm(x + u), "update": one.norm(u), "none": u}[norm]
        torch.testing.assert_close(other(x), x + 0.1 * expected)


def test_default_initialisation_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    weight = varied(TextVariant, 512, 128, INIT="default").up.weight
    assert weight.abs().max() <= 1 / 128**0.5  # uniform up to 1 / sqrt(inputs)
    assert abs(weight.std() * (3 * 128) ** 0.5 - 1) < 0.02


def learner(tiny_clip_path: Path, **values: object) -> SlowFastLearner:
    return adapters(build_model(torch.load(tiny_clip_path, weights_only=True)).float(), **values)


def test_places_reduction_kernel_and_stream_shape_the_adapters(tiny_clip_path: Path) -> None:
    def names(**values: object) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in learner(tiny_clip_path, **values).state_dict().items()}

    assert all("att_conv" in name for name in names(ADAPTER_PLACES="attention"))
    assert all("mlp_conv" in name for name in names(ADAPTER_PLACES="mlp"))
    assert names(REDUCTION=2.0)["text_adapter.1.att_conv.down.weight"] == (64, 128)
    assert names(REDUCTION=0.5)["visual_adapter.1.mlp_conv.up.weight"] == (512, 1024, 1, 1)
    assert names(KERNEL=5)["visual_adapter.1.att_conv.mid.weight"] == (32, 1, 5, 5)
    dense = names(VISUAL_STREAM="dense")
    assert not any(".mid." in name for name in dense)
    assert dense["visual_adapter.1.att_conv.down.weight"] == (32, 128)


def test_the_class_token_passes_a_dense_visual_stream_by(tiny_clip_path: Path) -> None:
    adapter = learner(tiny_clip_path, VISUAL_STREAM="dense").visual_adapter["1"]["att_conv"]
    x = torch.randn(2, 17, 128)
    y = adapter(x)
    assert torch.equal(y[:, 0], x[:, 0])
    assert not torch.equal(y[:, 1:], x[:, 1:])


@pytest.mark.parametrize("key", ALL_CHOICES)
def test_an_unknown_choice_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f'TRAINER.HeBA.{key} is "other"; set it to one of'):
        HeBA.method.from_options(options(**{key: "other"}))


@pytest.mark.parametrize(
    ("key", "value"), [("KERNEL", 4), ("KERNEL", 0), ("REDUCTION", 0.0), ("REDUCTION", math.nan)]
)
def test_impossible_sizes_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"TRAINER.HeBA.{key} is {value}"):
        HeBA.method.from_options(options(**{key: value}))


def test_a_reduction_that_leaves_nothing_is_refused(tiny_clip_path: Path) -> None:
    assert learner(tiny_clip_path, REDUCTION=128.0)
    with pytest.raises(ValueError, match="TRAINER.HeBA.REDUCTION is 129.0; set it to at most 128"):
        learner(tiny_clip_path, REDUCTION=129.0)


def test_a_first_block_of_0_is_refused_with_what_helps(tiny_clip_path: Path) -> None:
    with pytest.raises(ValueError, match="ADAPTER_START 0 .*; they count from 1"):
        learner(tiny_clip_path, ADAPTER_START=0, ADAPTER_END=-1)

"""CoOp, CoCoOp and MaPLe against numbers of their published code on a tiny random CLIP, in float32."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip.layout import pack, trim_to_longest
from clip.model import build_model
from dassl.config import get_cfg_default
from tests.data.shrink_goldens import SAMPLES, summary
from tests.goldens import formula, tiny_clip_weights
from trainers.cocoop import CoCoOp
from trainers.common.config import extend_cfg
from trainers.common.custom_clip import CustomCLIP
from trainers.common.learned_words import PromptTrainer
from trainers.coop import CoOp
from trainers.maple import MaPLe

CLASSES = [
    *("accordion", "airplane", "anchor", "ant", "barrel", "bass"),
    *("beaver", "binocular", "bonsai", "brain", "brontosaurus", "buddha"),
]
LABELS = torch.tensor([3, 7, 3, 0, 11, 7])
NEAR = {"rtol": 0, "atol": 2e-5}  # logits and features
LOSS = {"rtol": 0, "atol": 1e-5}
GRADIENT = 5e-5  # relative L2 distance of a tensor
LAYOUTS = pytest.mark.parametrize(
    "lay_out",
    [nn.Identity(), partial(trim_to_longest, extra=2), pack],
    ids=["padded", "trimmed", "packed"],
)


weights = cache(tiny_clip_weights)


def goldens(name: str) -> dict[str, torch.Tensor]:
    arrays = np.load(Path(__file__).parent / "data" / f"{name}_tiny.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    index = np.arange(6 * 3 * 32 * 32, dtype=np.int64)
    flat = 1.5 * np.sin(0.1 * ((index * 104729) % 100003))
    return torch.from_numpy(flat).reshape(6, 3, 32, 32).float()


def options(method: type[PromptTrainer], **values: object) -> CfgNode:
    """A configuration with values for a method's own options."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.TRAINER[method.options_name].update({"PREC": "fp32"} | values)
    return cfg


def build(method: type[PromptTrainer], **values: object) -> CustomCLIP:
    """The tiny CLIP with a method for the goldens' classes, as it is before training."""
    trainer = method.__new__(method)
    trainer.cfg = options(method, **values)
    trainer.check_cfg(trainer.cfg)
    trainer.texts = trainer.class_prompts(CLASSES)
    torch.manual_seed(0)
    clip_model = trainer.precision.store(build_model(weights()))
    return trainer.attach(clip_model, trainer.tokenize(trainer.texts)).eval()


def fill(model: CustomCLIP, values: dict[str, tuple[float, float]]) -> dict[str, nn.Parameter]:
    """Gives every weight the goldens' numbers; returns the weights."""
    learned = dict(model.adapter_learner.named_parameters())
    assert learned.keys() == values.keys()
    for name, weight in learned.items():
        weight.data.copy_(formula(weight.shape, *values[name]))
    return learned


def same_gradients(learned: dict[str, nn.Parameter], expected: dict[str, torch.Tensor], case: str) -> None:
    """Gradients by the relative distance of the whole tensor, or by summary."""
    prefix = f"{case}/grad/"
    assert learned.keys() == {name.removeprefix(prefix) for name in expected if name.startswith(prefix)}
    for name, weight in learned.items():
        there = expected[prefix + name]
        if there.shape == weight.shape:
            assert (weight.grad - there).norm() <= GRADIENT * there.norm(), name
            continue
        found, size = torch.from_numpy(summary(weight.grad.numpy())), weight.numel()
        tolerance = GRADIENT * there[0]
        assert abs(found[0] - there[0]) <= tolerance, name
        assert abs(found[1] - there[1]) <= tolerance * size**0.5, name
        assert (found[2:] - there[2:]).norm() <= 2 * tolerance * (SAMPLES / size) ** 0.5, name


def text_features(model: CustomCLIP) -> torch.Tensor:
    """Unnormalised features of all classes, as the model lays their prompts out."""
    return model.clip.encode_text(model.prompts.arrange(model.prompts.tokens))


COOP = {
    "ctxv1": {"CTX_INIT": "a photo of a"},
    "ctx16_end": {},
    "ctx16_middle": {"CLASS_TOKEN_POSITION": "middle"},
    "ctx16_front": {"CLASS_TOKEN_POSITION": "front"},
    "ctx16_csc": {"CSC": True},
}


@LAYOUTS
@pytest.mark.parametrize("case", COOP)
def test_coop_gives_published_features_logits_loss_and_gradient(
    images: torch.Tensor, case: str, lay_out: Callable
) -> None:
    expected = goldens("coop")
    model = build(CoOp, N_CTX=16, **COOP[case])
    number = 4 if case == "ctxv1" else 16
    for ours, theirs in zip(model.prompts.tokens, expected[f"{case}/tokens"], strict=True):
        assert (ours < 0).sum() == number
        assert torch.equal(ours[ours >= 0], torch.cat([theirs[:1], theirs[1 + number :]]))
    model.prompts = replace(model.prompts, arrange=lay_out)
    learned = fill(model, {"ctx": (0.05, 60)})
    with torch.no_grad():
        torch.testing.assert_close(text_features(model), expected[f"{case}/eval/text_raw"], **NEAR)
        torch.testing.assert_close(model(images), expected[f"{case}/eval/logits"], **NEAR)
    logits = model(images, model.prompts.draw(torch.arange(12)))
    torch.testing.assert_close(logits, expected[f"{case}/train/logits"], **NEAR)
    loss = F.cross_entropy(logits, LABELS)
    loss.backward()
    torch.testing.assert_close(loss, expected[f"{case}/train/loss"], **LOSS)
    same_gradients(learned, expected, f"{case}/train")


COCOOP = {
    "ctx": (0.05, 60),
    "meta_net.linear1.weight": (0.3, 61),
    "meta_net.linear1.bias": (0.1, 61.5),
    "meta_net.linear2.weight": (0.05, 62),
    "meta_net.linear2.bias": (0.02, 62.5),
}


@LAYOUTS
@pytest.mark.parametrize("at_once", [1, 1000, 8192], ids=["one image", "some", "all images"])
def test_cocoop_gives_published_features_logits_loss_and_gradients(
    images: torch.Tensor, lay_out: Callable, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most so many tokens of text go through the encoder at once."""
    monkeypatch.setattr("trainers.cocoop.TOKENS_AT_ONCE", at_once)
    expected = goldens("cocoop")
    model = build(CoCoOp, CTX_INIT="a photo of a")
    assert torch.equal(model.prompts.tokens[:, 5:], expected["tokens"][:, 5:])
    model.prompts = replace(model.prompts, arrange=lay_out)
    learned = fill(model, COCOOP)
    learner, embedding = model.adapter_learner, model.clip.token_embedding
    with torch.no_grad():
        vectors = learner(model.encode_image(images))
        torch.testing.assert_close(vectors - learner.ctx, spread(expected["eval/meta_bias"]), **NEAR)
        for own, theirs in zip(vectors, expected["eval/text_raw"], strict=True):
            embedding.instead = own
            torch.testing.assert_close(text_features(model), theirs, **NEAR)
        embedding.instead = None
        torch.testing.assert_close(model(images), expected["eval/logits"], **NEAR)
    for case, chosen in (("train_b6", slice(6)), ("train_b1", slice(1, 2))):
        model.zero_grad()
        logits = model(images[chosen], model.prompts.draw(torch.arange(12)))
        loss = F.cross_entropy(logits, LABELS[chosen])
        loss.backward()
        torch.testing.assert_close(loss, expected[f"{case}/loss"], **LOSS)
        same_gradients(learned, expected, case)


def spread(bias: torch.Tensor) -> torch.Tensor:
    """``(B, D)``, the same for all four vectors."""
    return bias.unsqueeze(1).expand(-1, 4, -1)


def maple_values(depth: int) -> dict[str, tuple[float, float]]:
    values = {"ctx": (0.05, 60.0), "proj.weight": (0.06, 63.0), "proj.bias": (0.05, 63.5)}
    for k in range(depth - 1):
        values[f"compound_prompts_text.{k}"] = (0.05, 64 + k)
        values[f"compound_prompt_projections.{k}.weight"] = (0.06, 70 + k)
        values[f"compound_prompt_projections.{k}.bias"] = (0.05, 70.5 + k)
    return values


@LAYOUTS
@pytest.mark.parametrize(("case", "depth"), [("", 3), ("depth1_", 1), ("depth4_", 4)])
def test_maple_gives_published_features_logits_loss_and_gradients(
    images: torch.Tensor, case: str, depth: int, lay_out: Callable
) -> None:
    expected = goldens("maple")
    model = build(MaPLe, PROMPT_DEPTH=depth)
    model.prompts = replace(model.prompts, arrange=lay_out)
    assert torch.equal(model.prompts.tokens[:, 3:], expected["tokens"][:, 3:])
    learned = fill(model, maple_values(depth))
    with torch.no_grad():
        if not case:
            blocks = model.clip.visual.transformer.resblocks
            for k, place in enumerate((model.clip.visual.ln_pre, blocks[1], blocks[2])):
                torch.testing.assert_close(place.prompts(), expected[f"eval/visual_prompt_{k}"], **NEAR)
        torch.testing.assert_close(text_features(model), expected[f"{case}eval/text_raw"], **NEAR)
        torch.testing.assert_close(model.clip.encode_image(images), expected[f"{case}eval/image_raw"], **NEAR)
    logits = model(images, model.prompts.draw(torch.arange(12)))
    torch.testing.assert_close(logits, expected[f"{case}eval/logits"], **NEAR)
    loss = F.cross_entropy(logits, LABELS)
    loss.backward()
    torch.testing.assert_close(loss, expected[f"{case}train/loss"], **LOSS)
    same_gradients(learned, expected, f"{case}train")


@pytest.mark.parametrize(("method", "name"), [(CoOp, "coop"), (CoCoOp, "cocoop"), (MaPLe, "maple")])
def test_vectors_start_from_the_published_words(method: type[PromptTrainer], name: str) -> None:
    model = build(method, CTX_INIT="a photo of a", **({"PROMPT_DEPTH": 3} if method is MaPLe else {}))
    expected = goldens(name)["ctxv1/ctx_init_from_words" if method is CoOp else "ctx_init_from_words"]
    assert torch.equal(model.adapter_learner.ctx, expected)

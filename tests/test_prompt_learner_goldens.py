"""CoOp, CoCoOp and MaPLe against numbers of their published code on a tiny random CLIP, in float32."""

from dataclasses import replace

import pytest
import torch

from adapt.method import Batch
from adapt.model import CustomCLIP
from tests.goldens import (
    LABELS,
    LOSS,
    NEAR,
    build,
    fill,
    golden_images,
    goldens,
    same_gradients,
)
from trainers.clip_trainer import ClipTrainer
from trainers.cocoop import CoCoOp
from trainers.coop import CoOp
from trainers.maple import MaPLe

LAYOUTS = pytest.mark.parametrize("lookahead", [77, 2, None], ids=["padded", "trimmed", "packed"])


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return golden_images()


def text_features(model: CustomCLIP) -> torch.Tensor:
    """Unnormalised features of all classes, as the model lays their prompts out."""
    return model.clip.encode_text(model.prompts.layout(model.prompts.tokens))


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
    images: torch.Tensor, case: str, lookahead: int | None
) -> None:
    expected = goldens("coop")
    model = build(CoOp, N_CTX=16, **COOP[case])
    number = 4 if case == "ctxv1" else 16
    for ours, theirs in zip(model.prompts.tokens, expected[f"{case}/tokens"], strict=True):
        assert (ours < 0).sum() == number
        assert torch.equal(ours[ours >= 0], torch.cat([theirs[:1], theirs[1 + number :]]))
    model.prompts = replace(model.prompts, lookahead=lookahead)
    learned = fill(model.adapter_learner, {"ctx": (0.05, 60)})
    with torch.no_grad():
        torch.testing.assert_close(text_features(model), expected[f"{case}/eval/text_raw"], **NEAR)
        torch.testing.assert_close(model(images), expected[f"{case}/eval/logits"], **NEAR)
    tokens = model.prompts.draw(torch.arange(12))
    torch.testing.assert_close(model(images, tokens), expected[f"{case}/train/logits"], **NEAR)
    loss, _ = model.method.loss(model, Batch(images, tokens, LABELS))
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
    images: torch.Tensor, lookahead: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most so many tokens of text go through the encoder at once."""
    monkeypatch.setattr("trainers.cocoop.TOKENS_AT_ONCE", at_once)
    expected = goldens("cocoop")
    model = build(CoCoOp, CTX_INIT="a photo of a")
    assert torch.equal(model.prompts.tokens[:, 5:], expected["tokens"][:, 5:])
    model.prompts = replace(model.prompts, lookahead=lookahead)
    learned = fill(model.adapter_learner, COCOOP)
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
        batch = Batch(images[chosen], model.prompts.draw(torch.arange(12)), LABELS[chosen])
        loss, _ = model.method.loss(model, batch)
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
    images: torch.Tensor, case: str, depth: int, lookahead: int | None
) -> None:
    expected = goldens("maple")
    model = build(MaPLe, PROMPT_DEPTH=depth)
    model.prompts = replace(model.prompts, lookahead=lookahead)
    assert torch.equal(model.prompts.tokens[:, 3:], expected["tokens"][:, 3:])
    learned = fill(model.adapter_learner, maple_values(depth))
    with torch.no_grad():
        if not case:
            blocks = model.clip.visual.transformer.resblocks
            for k, place in enumerate((model.clip.visual.ln_pre, blocks[1], blocks[2])):
                torch.testing.assert_close(place.prompts(), expected[f"eval/visual_prompt_{k}"], **NEAR)
        torch.testing.assert_close(text_features(model), expected[f"{case}eval/text_raw"], **NEAR)
        torch.testing.assert_close(model.clip.encode_image(images), expected[f"{case}eval/image_raw"], **NEAR)
    tokens = model.prompts.draw(torch.arange(12))
    torch.testing.assert_close(model(images, tokens), expected[f"{case}eval/logits"], **NEAR)
    loss, _ = model.method.loss(model, Batch(images, tokens, LABELS))
    loss.backward()
    torch.testing.assert_close(loss, expected[f"{case}train/loss"], **LOSS)
    same_gradients(learned, expected, f"{case}train")


@pytest.mark.parametrize(("trainer", "name"), [(CoOp, "coop"), (CoCoOp, "cocoop"), (MaPLe, "maple")])
def test_vectors_start_from_the_published_words(trainer: type[ClipTrainer], name: str) -> None:
    model = build(trainer, CTX_INIT="a photo of a", **({"PROMPT_DEPTH": 3} if trainer is MaPLe else {}))
    expected = goldens(name)["ctxv1/ctx_init_from_words" if trainer is CoOp else "ctx_init_from_words"]
    assert torch.equal(model.adapter_learner.ctx, expected)

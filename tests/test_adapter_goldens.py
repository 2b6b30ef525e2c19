"""LwEIB, MMA and MMA++ against numbers of their published code on a tiny random CLIP, in float32."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from adapt.method import Batch
from adapt.model import CustomCLIP
from adapt.prompts import ClassPrompts
from clip.layout import pack, trim_to_longest
from tests.goldens import (
    CLASSES,
    LABELS,
    LOSS,
    NEAR,
    build,
    fill,
    golden_images,
    goldens,
    method,
    options,
    same_gradients,
)
from trainers.clip_trainer import ClipTrainer
from trainers.lweib import LwEIB
from trainers.mmadapter import MultiModalAdapter
from trainers.mmadapter_pp import MultiModalAdapterPP

PACKED = pytest.mark.parametrize("lay_out", [nn.Identity(), pack], ids=["padded", "packed"])


def for_prompts(trainer: type[ClipTrainer], tokens: torch.Tensor, **values: object) -> CustomCLIP:
    """The tiny CLIP with the method for ``(C, P, 77)`` prompts, as it is before training."""
    prompts = ClassPrompts(tokens.flatten(0, 1), torch.full((len(tokens),), tokens.shape[1]))
    return build(trainer, prompts=prompts, **values)


# LwEIB


def lweib(expected: dict[str, torch.Tensor]) -> tuple[CustomCLIP, dict[str, nn.Parameter]]:
    model = for_prompts(LwEIB, expected["tk_prompts"], ADAPTER_END=4)
    values = {
        f"{encoder}_adapter.{block}.{place}.conv.weight": (0.3, block + later + more + 0.1)
        for encoder, later in (("text", 0), ("visual", 20))
        for block in range(1, 5)
        for place, more in (("att_conv", 0), ("mlp_conv", 0.5))
    }
    return model, fill(model.adapter_learner, values)


def test_lweib_gives_published_features_and_logits() -> None:
    expected = goldens("lweib")
    model = lweib(expected)[0]
    with torch.no_grad():
        first = model.prompts.layout(expected["tk_prompts"][:, 0])
        assert first.shape[1] < 77
        close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
        close(model.clip.encode_text(first), expected["eval_base/text_features_template0_raw"])
        close(model.clip.encode_image(golden_images()), expected["eval_base/image_features_raw"])
        close(model.text_features(), expected["eval_base/text_features_mean_normalized"])
        close(model(golden_images()), expected["eval_base/logits"])
        model.adapter_learner.set_scale(0)
        close(model.clip.encode_image(golden_images()), expected["clip_noadapter/image_raw"])
        close(model.clip.encode_text(first), expected["clip_noadapter/text_template0_raw"])


@pytest.mark.parametrize("arranged", [False, True], ids=["padded", "trimmed"])
@pytest.mark.parametrize("case", ["train_slow", "train_fast", "train_neg2"])
def test_lweib_gives_published_loss_and_every_gradient(case: str, arranged: bool) -> None:
    expected = goldens("lweib")
    model, learned = lweib(expected)
    learner = model.adapter_learner.train()
    learner.slow_fast_ratio = 0.0 if case == "train_fast" else 1.0
    tokens = expected[f"{case}/tokens"]
    images = golden_images()[: len(expected[f"{case}/label_in"])]
    with learner.drawn_scales():
        for encoder in ("text", "visual"):
            scales = [block["att_conv"].scale for block in getattr(learner, f"{encoder}_adapter").values()]
            np.testing.assert_allclose(scales, expected[f"{case}/scales_{encoder}"], rtol=1e-7)
        logits = model(images, model.prompts.layout(tokens) if arranged else tokens)
    batch = Batch(images, model.prompts.layout(tokens) if arranged else tokens, expected[f"{case}/label_out"])
    loss, _ = model.method.loss(model, batch)
    loss.backward()
    torch.testing.assert_close(logits, expected[f"{case}/logits"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, expected[f"{case}/loss"], rtol=1e-5, atol=1e-5)
    # What lies beyond the end of text gets no gradient of any loss, so trimmed texts give the same.
    same_gradients(learned, expected, case, tolerance=1e-5)


def test_lweib_needs_two_tokens_ahead_for_each_block() -> None:
    """With fewer the feature changes: neighbours of neighbours reach the end of text."""
    expected = goldens("lweib")
    model = lweib(expected)[0]
    model.adapter_learner.set_scale(0.5)
    tokens = expected["tk_prompts"][:, 0]
    with torch.no_grad():
        whole = model.clip.encode_text(tokens)
        torch.testing.assert_close(model.clip.encode_text(model.prompts.layout(tokens)), whole, **NEAR)
        short = model.clip.encode_text(trim_to_longest(tokens, extra=1))
        assert (short - whole).abs().max() > 1e-3
        with pytest.raises(ValueError, match="LwEIB looks across tokens"):
            model.clip.encode_text(pack(tokens))


# MMA and MMA++


def cross_modal_values() -> dict[str, tuple[float, float]]:
    values = {}
    for block in range(2, 5):
        for encoder, later in (("text", 0), ("visual", 20)):
            values |= {
                f"{encoder}_adapter.{block}.down.0.weight": (0.06, block + later),
                f"{encoder}_adapter.{block}.down.0.bias": (0.05, block + later + 0.6),
                f"{encoder}_adapter.{block}.up.weight": (0.08, block + later + 0.2),
                f"{encoder}_adapter.{block}.up.bias": (0.05, block + later + 0.7),
            }
        values[f"shared_adapter.{block}.0.weight"] = (0.15, block + 40.1)
        values[f"shared_adapter.{block}.0.bias"] = (0.05, block + 40.8)
    return values


MMA_BLOCKS = {"ADAPTER_START": 2, "ADAPTER_END": 4}


@PACKED
@pytest.mark.parametrize(("case", "scale"), [("_loud", 0.5), ("", 0.001)])
def test_mma_gives_published_features_logits_loss_and_gradients(
    case: str, scale: float, lay_out: Callable
) -> None:
    expected = goldens("mma")
    model = for_prompts(MultiModalAdapter, expected["tokens"][:, None], ADAPTER_SCALE=scale, **MMA_BLOCKS)
    tokens = lay_out(expected["tokens"])
    learned = fill(model.adapter_learner, cross_modal_values())
    assert torch.equal(ClassPrompts.tokenize(model.method.prompts(CLASSES)).tokens, expected["tokens"])
    with torch.no_grad():
        torch.testing.assert_close(model.clip.encode_text(tokens), expected[f"eval{case}/text_raw"], **NEAR)
        image = model.clip.encode_image(golden_images())
        torch.testing.assert_close(image, expected[f"eval{case}/image_raw"], **NEAR)
        torch.testing.assert_close(model(golden_images()), expected[f"eval{case}/logits"], **NEAR)
    loss, _ = model.method.loss(model, Batch(golden_images(), tokens, LABELS))
    loss.backward()
    torch.testing.assert_close(model(golden_images(), tokens), expected[f"train{case}/logits"], **NEAR)
    torch.testing.assert_close(loss, expected[f"train{case}/loss"], **LOSS)
    same_gradients(learned, expected, f"train{case}")


@pytest.mark.parametrize(
    ("case", "prompts", "scale"),
    [("eval", "cupl", 0.0065), ("eval_loud", "cupl", 0.3), ("eval_hc", "hc", 0.0065)],
)
def test_mmapp_gives_published_features_and_logits(case: str, prompts: str, scale: float) -> None:
    expected = goldens("mmapp")
    tokens = expected[f"tk_prompts_{prompts}"]
    model = for_prompts(MultiModalAdapterPP, tokens, ADAPTER_TEST_SCALE=scale, **MMA_BLOCKS)
    fill(model.adapter_learner, cross_modal_values())
    with torch.no_grad():
        for place, name in ((0, "template0"), (-1, "last_template")):
            found = model.clip.encode_text(pack(tokens[:, place]))
            torch.testing.assert_close(found, expected[f"{case}/text_raw_{name}"], **NEAR)
        image = model.clip.encode_image(golden_images())
        torch.testing.assert_close(image, expected[f"{case}/image_raw"], **NEAR)
        torch.testing.assert_close(model.text_features(), expected[f"{case}/text_mean_norm"], **NEAR)
        torch.testing.assert_close(model(golden_images()), expected[f"{case}/logits"], **NEAR)


def test_mmapp_has_the_published_hand_written_prompts() -> None:
    prompts = method(MultiModalAdapterPP, INPUT_PROMPTS="hc").prompts(CLASSES)
    tokens = ClassPrompts.tokenize(prompts).tokens.view(12, 80, 77)
    assert torch.equal(tokens, goldens("mmapp")["tk_prompts_hc"])


class GivenDropout(nn.Module):
    """Drops what the published code dropped: a mask of (tokens, batch, width) for each call, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = self.masks.pop(0)  # (L, B, 32)
        if x.shape[1] == 1:  # the class token alone leaves the last block
            mask = mask[:1]
        return x * mask.transpose(0, 1) / 0.9


def give_masks(model: nn.Module, expected: dict[str, torch.Tensor], case: str) -> None:
    """The masks in the order in which texts and images of both passes come by."""
    for block, shared in model.adapter_learner.shared_adapter.items():
        shared[2] = GivenDropout()
        for part in ("main", "reg"):
            for encoder, shape in (("text", (77, 12, 32)), ("image", (17, 6, 32))):
                bits = expected[f"{case}/drop/{part}/{encoder}/{block}"].numpy()
                mask = np.unpackbits(bits)[: int(np.prod(shape))].reshape(shape)
                shared[2].masks.append(torch.from_numpy(mask).float())


@pytest.mark.parametrize("loud", ["", "_loud"])
@pytest.mark.parametrize(
    ("dropped", "lay_out"), [("nodrop", nn.Identity()), ("nodrop", pack), ("drop", None)]
)
def test_mmapp_gives_published_loss_terms_and_gradients(
    dropped: str, loud: str, lay_out: Callable | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, case = goldens("mmapp"), f"train_{dropped}{loud}"
    scale = 0.5 if loud else 0.01
    drop = 0.0 if dropped == "nodrop" else 0.1
    model = for_prompts(
        MultiModalAdapterPP,
        expected["tk_prompts_cupl"],
        ADAPTER_TRAIN_SCALE=scale,
        ADAPTER_DROP=drop,
        **MMA_BLOCKS,
    )
    model.train()
    learned = fill(model.adapter_learner, cross_modal_values())
    if dropped == "drop":
        give_masks(model, expected, case)
    monkeypatch.setattr(model.method, "draw", lambda: expected[f"{case}/curr_scale"].item() / scale)
    tokens = expected[f"{case}/tokens"]
    batch = Batch(golden_images(), lay_out(tokens) if lay_out else tokens, LABELS)
    logits, terms = model.method.loss_terms(model, batch)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    torch.testing.assert_close(logits, expected[f"{case}/logits"], **NEAR)
    for ours, theirs in (("ce", "ce"), ("text", "t_loss"), ("image", "i_loss")):
        torch.testing.assert_close(terms[ours], expected[f"{case}/{theirs}"], **LOSS)
    torch.testing.assert_close(loss, expected[f"{case}/loss"], **LOSS)
    same_gradients(learned, expected, case)
    assert {adapter.scale for adapter in model.adapter_learner.adapters()} == {0.0065}  # evaluation's again


def test_mmapp_takes_a_data_sets_own_template_and_refuses_compiled_blocks() -> None:
    cfg = options(MultiModalAdapterPP)
    cfg.MODEL.BACKBONE.NAME, cfg.DATASET.TEMPLATE = "ViT-B/16", "an aerial photo of {}."
    own = MultiModalAdapterPP.method_of(cfg)
    assert own.prompts(["ice_field"]) == [["an aerial photo of ice field."]]
    cfg.MODEL.COMPILE = True
    with pytest.raises(ValueError, match="MODEL.COMPILE is True, but MultiModalAdapterPP"):
        MultiModalAdapterPP.method_of(cfg)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_a_scale_that_is_no_finite_number_is_refused(value: float) -> None:
    for trainer, key in (
        (LwEIB, "ADAPTER_SCALE"),
        (MultiModalAdapter, "ADAPTER_SCALE"),
        (MultiModalAdapterPP, "ADAPTER_TEST_SCALE"),
    ):
        with pytest.raises(ValueError, match=f"{key} is .*; set it to a number >= 0"):
            method(trainer, **{key: value})

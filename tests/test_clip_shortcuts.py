"""What CLIP leaves out to be quick changes nothing: padding, the last block's other tokens, kept tensors."""

import pytest
import torch
from torch.nn import functional as F

from adapt.precision import Precision
from clip import clip
from clip.layout import pack
from clip.model import CLIP
from clip.transformer import QuickGELU, attend
from tests.test_clip_model import TEXTS, VIT, images, randomised

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def model() -> CLIP:
    return randomised(VIT)


@torch.no_grad()
def test_packed_texts_have_the_features_of_padded_ones(model: CLIP) -> None:
    tokens = clip.tokenize(TEXTS)
    expected = model.encode_text(tokens)
    torch.testing.assert_close(model.encode_text(pack(tokens)), expected, **CLOSE)
    for row, feature in zip(tokens, expected, strict=True):  # alone, where nothing is padded
        torch.testing.assert_close(model.encode_text(pack(row[None]))[0], feature, **CLOSE)


def test_packing_keeps_every_token_up_to_the_end_of_its_text() -> None:
    tokens = clip.tokenize(["a", "a photo of a dog", ""])
    packed = pack(tokens)
    texts = [row[: row.argmax() + 1] for row in tokens]
    assert torch.equal(packed.tokens, torch.cat(texts))
    assert torch.equal(packed.tokens[packed.ends], tokens.max(dim=1).values)
    assert packed.positions.tolist() == [place for text in texts for place in range(len(text))]
    x = torch.randn(len(packed.tokens), 8)
    assert packed.to_padded(x).shape == (3, 7, 8)
    assert torch.equal(packed.to_packed(packed.to_padded(x)), x)


@torch.no_grad()
def test_the_class_token_alone_through_the_last_block_is_the_same(model: CLIP) -> None:
    image = images(model)
    every_token = model.visual.transformer.run(model.visual.embed(image))
    expected = model.visual.ln_post(every_token[:, 0]) @ model.visual.proj
    torch.testing.assert_close(model.encode_image(image), expected, **CLOSE)


def test_gradients_through_packed_texts_and_pruned_images_are_those_of_the_plain_way(model: CLIP) -> None:
    tokens, image = clip.tokenize(TEXTS), images(model)

    def gradients(text: torch.Tensor, pixels: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        weight = torch.linspace(-1, 1, text.shape[-1])
        (text * weight).sum().backward()
        (pixels * weight).sum().backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    every_token = model.visual.transformer.run(model.visual.embed(image))
    plain = gradients(model.encode_text(tokens), model.visual.ln_post(every_token[:, 0]) @ model.visual.proj)
    quick = gradients(model.encode_text(pack(tokens)), model.encode_image(image))
    assert len(plain) == len(quick) > 20
    for a, b in zip(plain, quick, strict=True):
        assert (a - b).norm() <= 1e-5 * a.norm() + 1e-7


def test_quick_gelu_and_its_gradient_are_x_times_a_sigmoid() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    y = QuickGELU()(x)
    torch.testing.assert_close(y, x * torch.sigmoid(1.702 * x))
    assert torch.autograd.gradcheck(QuickGELU(), x)
    with torch.no_grad():
        torch.testing.assert_close(QuickGELU()(x), y)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bfloat16_with_gradients_agrees_with_float32(causal: bool) -> None:
    q, k, v = (torch.randn(2, 3, 9, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    half = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    torch.testing.assert_close(attend(*half, causal=causal).float(), expected, rtol=0.05, atol=0.05)
    mask = torch.ones(9, 9, dtype=torch.bool).tril() if causal else None
    torch.testing.assert_close(attend(*half, mask=mask).float(), expected, rtol=0.05, atol=0.05)


def test_under_autocast_the_residual_streams_of_both_towers_stay_float32() -> None:
    """As ``Precision.store`` says; a convolution under autocast gives a half precision."""
    torch.manual_seed(0)
    model = Precision(torch.bfloat16, torch.bfloat16).store(CLIP(64, 32, 2, 128, 8, 77, 49408, 128, 2, 2))
    found = []
    for tower in (model.transformer, model.visual.transformer):
        for block in tower.resblocks:
            block.register_forward_hook(
                lambda _, inputs, output: found.extend((inputs[0].dtype, output.dtype))
            )
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model.encode_image(torch.randn(2, 3, 32, 32))
        model.encode_text(pack(clip.tokenize(["a cat", "a photo of a dog"])))
    assert len(found) == 8
    assert set(found) == {torch.float32}

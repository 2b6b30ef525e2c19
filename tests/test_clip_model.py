"""The towers compute what open_clip's compute, and behave as modules should."""

import copy

import pytest
import torch

import clip
from clip.layout import trim_to_longest
from clip.model import CLIP, HEAD_WIDTH, build_model
from clip.resnet import ModifiedResNet
from clip.transformer import LayerNorm

TEXTS = ["a photo of a cat.", "", "a centered satellite photo of annual crop land", "word " * 75]
VIT = dict(
    embed_dim=32,
    image_resolution=32,
    vision_layers=3,
    vision_width=128,
    vision_patch_size=8,
    context_length=77,
    vocab_size=49408,
    transformer_width=64,
    transformer_heads=1,
    transformer_layers=3,
)
RESNET = VIT | dict(image_resolution=64, vision_layers=(2, 1, 2, 1), vision_width=8, vision_patch_size=None)


def randomised(shape: dict, quick_gelu: bool = True) -> CLIP:
    """A float32 CLIP whose every parameter and batch statistic is random, so that nothing hides at 0 or 1."""
    torch.manual_seed(0)
    model = CLIP(**shape, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() > 0:
                tensor.add_(0.1 * torch.randn_like(tensor)).abs_() if tensor.dim() == 1 else tensor.mul_(1.5)
    return model


def reference(shape: dict, quick_gelu: bool) -> torch.nn.Module:
    """open_clip's model of the same shape."""
    from open_clip.model import CLIP as Theirs
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    layers = shape["vision_layers"]
    vision = CLIPVisionCfg(
        layers=layers if isinstance(layers, int) else list(layers),
        width=shape["vision_width"],
        patch_size=shape["vision_patch_size"],
        image_size=shape["image_resolution"],
        head_width=HEAD_WIDTH,
    )
    text = CLIPTextCfg(
        width=shape["transformer_width"], heads=shape["transformer_heads"], layers=shape["transformer_layers"]
    )
    return Theirs(shape["embed_dim"], vision, text, quick_gelu=quick_gelu).eval()


def images(model: CLIP, count: int = 3) -> torch.Tensor:
    size = model.visual.input_resolution
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> CLIP:
    return randomised(VIT)


@pytest.mark.parametrize(
    ("shape", "quick_gelu"), [(VIT, True), (VIT, False), (RESNET, True), (RESNET, False)]
)
@torch.no_grad()
def test_features_equal_open_clip_on_the_same_weights(shape: dict, quick_gelu: bool):
    ours, theirs = randomised(shape, quick_gelu), reference(shape, quick_gelu)
    theirs.load_state_dict(ours.state_dict())
    image, text = images(ours), clip.tokenize(TEXTS)
    torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.encode_text(text), theirs.encode_text(text), rtol=1e-5, atol=1e-5)
    logits, transposed = ours(image, text)
    torch.testing.assert_close(logits, theirs.get_logits(image, text)[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(transposed, logits.t())


@torch.no_grad()
def test_trimmed_text_has_the_same_features(model: CLIP):
    tokens = clip.tokenize(TEXTS[:3])
    short = trim_to_longest(tokens)
    assert short.shape == (3, 10)
    assert trim_to_longest(tokens, extra=2).shape == (3, 12)
    assert trim_to_longest(tokens, extra=1000).shape == (3, 77)
    assert trim_to_longest(tokens.view(1, 3, 77)).shape == (1, 3, 10)
    assert trim_to_longest(tokens[:0]).shape == (0, 77)
    torch.testing.assert_close(model.encode_text(short), model.encode_text(tokens), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_text_after_its_end_does_not_matter(model: CLIP):
    tokens = clip.tokenize(TEXTS[:1])
    scribbled = torch.where(tokens == 0, torch.randint(1, 49000, tokens.shape, dtype=tokens.dtype), tokens)
    torch.testing.assert_close(model.encode_text(scribbled), model.encode_text(tokens), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_length_first_interface_equals_batch_first_and_is_causal(model: CLIP):
    x = torch.randn(2, 9, 64)
    batch_first = model.transformer.run(x)
    torch.testing.assert_close(model.transformer(x.transpose(0, 1)), batch_first.transpose(0, 1))
    torch.testing.assert_close(model.transformer.run(x[:, :4]), batch_first[:, :4])
    assert model.transformer(x.transpose(0, 1)).shape == (9, 2, 64)


@pytest.mark.parametrize("shape", [VIT, RESNET])
def test_compiles_without_graph_break(shape: dict):
    model = randomised(shape)
    image, text = images(model), clip.tokenize(TEXTS)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image, text)[0], model(image, text)[0])


def test_vit_b16_has_the_published_size():
    with torch.device("meta"):
        model = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
    assert sum(p.numel() for p in model.parameters()) == 149_620_737
    assert model.visual.positional_embedding.shape == (197, 768)


def test_initial_values_follow_the_paper():
    torch.manual_seed(0)
    model = CLIP(**VIT | dict(transformer_width=256, transformer_heads=4))
    block = model.transformer.resblocks[0]
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    for tensor, std in [
        (model.token_embedding.weight, 0.02),
        (model.positional_embedding, 0.01),
        (block.attn.in_proj_weight, 256**-0.5),
        (block.attn.out_proj.weight, 256**-0.5 * 6**-0.5),
        (block.mlp.c_fc.weight, 512**-0.5),
        (block.mlp.c_proj.weight, 256**-0.5 * 6**-0.5),
        (model.text_projection, 256**-0.5),
        (model.visual.proj, 128**-0.5),
    ]:
        assert tensor.std().item() == pytest.approx(std, rel=0.05)
    assert not block.attn.in_proj_bias.any()
    assert not CLIP(**RESNET).visual.layer1[0].bn3.weight.any()


@pytest.mark.parametrize("shape", [VIT, RESNET])
def test_build_model_leaves_norms_and_embeddings_in_float32(shape: dict):
    state = randomised(shape).state_dict()
    extras = {
        "input_resolution": torch.tensor(1),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(2),
    }
    model = build_model(state | extras)
    assert not model.training
    assert model.dtype == torch.float16
    assert isinstance(model.visual, ModifiedResNet) == (shape is RESNET)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name].to(tensor.dtype), rtol=0, atol=0)
        if tensor.is_floating_point():
            kept = ("ln_", "bn", "downsample.1", "embedding", "logit_scale")
            assert (tensor.dtype == torch.float32) == any(part in name for part in kept), name
    assert {"input_resolution", "context_length", "vocab_size"}.isdisjoint(model.state_dict())


@torch.no_grad()
def test_half_precision_model_runs_and_is_near_float32(model: CLIP):
    half = build_model(model.state_dict())
    text = clip.tokenize(TEXTS)
    features = half.encode_text(text)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), model.encode_text(text), rtol=0.02, atol=0.02)
    image = half.encode_image(images(model))
    torch.testing.assert_close(image.float(), model.encode_image(images(model)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [VIT, RESNET])
def test_autocast_runs_forward_and_backward(shape: dict, dtype: torch.dtype):
    model = randomised(shape)
    exact = model(images(model), clip.tokenize(TEXTS))[0]
    with torch.autocast("cpu", dtype=dtype):
        logits = model(images(model), clip.tokenize(TEXTS))[0]
    logits.float().sum().backward()
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.1)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("parameter_dtype", [torch.float16, torch.float32])
def test_layer_norm_computes_wide_and_returns_the_input_type(
    dtype: torch.dtype, parameter_dtype: torch.dtype
):
    norm = LayerNorm(8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm.to(parameter_dtype)
    x = (1000 + 100 * torch.randn(64, 8)).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    expected = torch.nn.functional.layer_norm(x.to(wide), (8,), norm.weight.to(wide), norm.bias.to(wide))
    torch.testing.assert_close(norm(x), expected.to(dtype))  # the last bit of a half may differ
    assert norm(x).dtype == dtype


def test_wrong_input_sizes_are_errors_that_say_the_right_one(model: CLIP):
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 64\).*\(B, 3, 32, 32\)"):
        model.encode_image(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"\(1, 78\).*77"):
        model.encode_text(torch.zeros(1, 78, dtype=torch.int))
    with pytest.raises(ValueError, match="64 cannot have 3 heads"):
        CLIP(**VIT | dict(transformer_heads=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@torch.no_grad()
def test_gpu_half_precision_and_autocast_are_near_float32(model: CLIP):
    text, image = clip.tokenize(TEXTS), images(model)
    exact = model.encode_text(text), model.encode_image(image)
    half = build_model(model.state_dict()).cuda()
    with torch.autocast("cuda", dtype=torch.float16):
        auto = copy.deepcopy(model).cuda()
        cast = auto.encode_text(text.cuda()), auto.encode_image(image.cuda())
    for values in (cast, (half.encode_text(text.cuda()), half.encode_image(image.cuda()))):
        for value, expected in zip(values, exact, strict=True):
            torch.testing.assert_close(value.float().cpu(), expected, rtol=0.02, atol=0.02)

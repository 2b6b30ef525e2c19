"""HeBA's invariants on a tiny random CLIP."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from adapt.attach import SlowFastLearner
from adapt.method import build_model
from adapt.model import CustomCLIP, adapter_weights, class_means
from adapt.precision import PRECISIONS
from adapt.prompts import ClassPrompts
from adapt.sampling import sample_classes
from clip import clip
from clip.layout import pack
from clip.model import CLIP
from clip.model import build_model as build_clip
from trainers import heba_ablations
from trainers.heba import HeBA, extend_cfg

CLASSES = ["ant", "grand piano", "lotus", "scissors"]


def options(**values: object) -> CfgNode:
    cfg = CfgNode({"TRAINER": {}})
    extend_cfg(cfg)
    heba_ablations.extend_cfg(cfg)
    cfg.TRAINER.HeBA.update({"PREC": "fp32", "ADAPTER_END": -1} | values)
    return cfg.TRAINER.HeBA


def adapters(clip_model: CLIP, **values: object) -> SlowFastLearner:
    """HeBA's adapters, attached to a CLIP."""
    prompts = ClassPrompts.tokenize([["a"]])
    return HeBA.method.from_options(options(**values)).attach_adapters(clip_model, prompts)


@pytest.fixture
def model(tiny_clip_path: Path) -> CustomCLIP:
    torch.manual_seed(1)
    clip_model = build_clip(torch.load(tiny_clip_path, weights_only=True)).float()
    prompts = [[f"a photo of a {name}.", f"a photo of a {name}, which is far longer."] for name in CLASSES]
    return build_model(HeBA.method, options(), CLASSES, clip_model, prompts=prompts)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_scale_zero_is_clip_bit_for_bit(
    model: CustomCLIP, images: torch.Tensor, tiny_clip_path: Path
) -> None:
    plain = build_clip(torch.load(tiny_clip_path, weights_only=True)).float()
    plain.requires_grad_(False)  # torch up to 2.11 convolves with frozen weights in another order
    tokens = clip.tokenize([f"a photo of a {name}." for name in CLASSES])
    with torch.no_grad():
        assert not torch.equal(model.clip.encode_image(images), plain.encode_image(images))
        model.adapter_learner.set_scale(0)
        assert torch.equal(model.clip.encode_image(images), plain.encode_image(images))
        assert torch.equal(model.clip.encode_text(tokens), plain.encode_text(tokens))


def test_only_adapter_weights_get_gradients_and_change(model: CustomCLIP, images: torch.Tensor) -> None:
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optim = torch.optim.SGD(model.adapter_learner.parameters(), lr=0.1, weight_decay=5e-4)
    with model.adapter_learner.train().drawn_scales():
        logits = model(images, model.prompts.draw(torch.arange(4)))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 0])).backward()
    optim.step()
    adapters = adapter_weights(model)
    trained = set(adapters.values())
    # The last visual MLP adapter has a zero gradient, so its zero bias is not even decayed.
    dead = adapters["adapter_learner.visual_adapter.4.mlp_conv.norm.bias"]
    for name, weight in model.named_parameters():
        assert (weight in trained) == (weight.grad is not None), name
        assert (weight in trained and weight is not dead) != torch.equal(weight, before[name]), name


def test_last_visual_mlp_adapter_has_a_zero_gradient_as_published(
    model: CustomCLIP, images: torch.Tensor
) -> None:
    with model.adapter_learner.train().drawn_scales():
        model(images, model.prompts.draw(torch.arange(4))).sum().backward()
    for weight in model.adapter_learner.visual_adapter["4"]["mlp_conv"].parameters():
        assert weight.grad is not None
        assert not weight.grad.any()


def test_adapters_at_vit_b16_have_the_published_size() -> None:
    with torch.device("meta"):
        backbone = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
        learner = adapters(backbone)
        model = CustomCLIP(backbone, ClassPrompts(torch.zeros(1, 77), torch.ones(1)), learner)

    def count(encoder: str, place: str) -> int:
        blocks = getattr(learner, f"{encoder}_adapter").values()
        return sum(weight.numel() for block in blocks for weight in block[place].parameters())

    assert count("text", "att_conv") == 1_585_152
    assert count("text", "mlp_conv") == 25_214_976
    assert count("visual", "att_conv") == 3_578_112
    assert count("visual", "mlp_conv") == 56_779_776
    trained = sum(weight.numel() for weight in adapter_weights(model).values())
    assert trained == 87_158_016
    assert sum(weight.numel() for weight in model.parameters()) - trained == 149_620_737


def test_checkpoint_names_are_the_published_ones(model: CustomCLIP) -> None:
    names = set(model.adapter_learner.state_dict())
    layers = [
        f"{encoder}_adapter.{block}.{place}"
        for encoder in ("visual", "text")
        for block in range(1, 5)
        for place in ("att_conv", "mlp_conv")
    ]
    tensors = ["down.weight", "up.weight", "norm.weight", "norm.bias"]
    expected = {f"{layer}.{tensor}" for layer in layers for tensor in tensors}
    assert names == expected | {f"{layer}.mid.weight" for layer in layers if layer.startswith("visual")}


def test_up_projections_start_from_he_normal_over_outputs(model: CustomCLIP) -> None:
    for place, width in (("att_conv", 128), ("mlp_conv", 512)):
        for encoder in ("text", "visual"):
            weight = getattr(model.adapter_learner, f"{encoder}_adapter")["1"][place].up.weight
            expected = (2 / width) ** 0.5
            assert abs(weight.std().item() / expected - 1) < 0.05
            assert abs(weight.mean().item()) < 0.05 * expected


def test_fast_steps_come_with_one_minus_the_ratio_and_are_shared_within_a_block(model: CustomCLIP) -> None:
    learner = model.adapter_learner.train()
    torch.manual_seed(0)
    fast = []
    for _ in range(500):
        with learner.drawn_scales():
            for blocks in (learner.text_adapter, learner.visual_adapter):
                for block in blocks.values():
                    assert block["att_conv"].scale == block["mlp_conv"].scale
                    fast.append(block["att_conv"].scale == 0.025 * 2.25)
                    assert fast[-1] or block["att_conv"].scale == 0.025
    assert abs(sum(fast) / len(fast) - 0.2) < 0.03  # 4,000 draws: standard error 0.006
    assert {block[place].scale for block in learner.text_adapter.values() for place in block} == {0.025}


def test_class_features_follow_weights_scale_and_classes_at_once(
    model: CustomCLIP, images: torch.Tensor
) -> None:
    model.eval()
    with torch.no_grad():
        first = model(images)
        with model.keep_text_features():
            assert torch.equal(model(images), first)
        model.adapter_learner.set_scale(0.5)
        second = model(images)
        assert not torch.allclose(first, second)
        model.adapter_learner.text_adapter["1"]["att_conv"].up.weight.mul_(2)
        assert not torch.allclose(model(images), second)
        model.prompts = ClassPrompts.tokenize([["one class"]])
        assert model(images).shape == (5, 1)


def test_class_features_are_those_of_full_length_prompts_one_by_one(model: CustomCLIP) -> None:
    def one(tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(model.clip.encode_text(tokens[None]), dim=-1)[0]

    with torch.no_grad():
        single = torch.stack([one(tokens) for tokens in model.prompts.tokens]).view(4, 2, -1).mean(1)
        expected = torch.nn.functional.normalize(single, dim=-1)
        torch.testing.assert_close(model.text_features(), expected, rtol=1e-5, atol=1e-6)


def test_a_class_may_have_any_number_of_prompts() -> None:
    prompts = ClassPrompts.tokenize([["a"], ["b", "c", "d"], ["e", "f"]])
    drawn = {tuple(prompts.draw(torch.tensor([1])).tokens.tolist()) for _ in range(100)}
    assert drawn == {tuple(row[:3].tolist()) for row in clip.tokenize(["b", "c", "d"])}


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_model_can_be_copied_and_pickled(model: CustomCLIP, images: torch.Tensor, how: object) -> None:
    twin = how(model.eval())
    with torch.no_grad():
        assert torch.equal(twin(images), model(images))
        for weight in twin.adapter_learner.parameters():
            weight.mul_(1.5)  # the copy's blocks hold the copy's adapters
        assert not torch.equal(twin(images), model(images))


@pytest.mark.parametrize("name", ["fp16", "amp", "bf16"])
def test_half_precisions_agree_with_float32(
    model: CustomCLIP, images: torch.Tensor, tiny_clip_path: Path, name: str
) -> None:
    precision = PRECISIONS[name]
    clip_model = precision.store(build_clip(torch.load(tiny_clip_path, weights_only=True)))
    half = build_model(HeBA.method, options(PREC=name), CLASSES, clip_model, prompts=model.prompts).eval()
    half.adapter_learner.load_state_dict(model.adapter_learner.state_dict())
    assert all(weight.dtype == torch.float32 for weight in adapter_weights(half).values())
    model.eval()
    with torch.no_grad():
        expected = model(images)
        with precision.autocast(torch.device("cpu")):
            found = half(images)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < (0.2 if name == "bf16" else 0.03)  # logits of scale 14


def test_negative_classes_are_distinct_and_labels_point_to_their_class() -> None:
    label = torch.tensor([7, 2, 7, 40])
    for ratio, number in ((0, 3), (5, 18), (100, 50)):
        classes, target = sample_classes(label, 50, ratio)
        assert len(classes) == len(set(classes.tolist())) == number
        assert torch.equal(classes[target], label)
    for ratio, number in ((-1, 50), (5, 4)):
        classes, target = sample_classes(label % number, number, ratio)
        assert torch.equal(classes, torch.arange(number))
        assert torch.equal(target, label % number)


def test_one_negative_class_does_not_crash() -> None:
    """The published code fails where exactly one class is left over."""
    classes, target = sample_classes(torch.tensor([0, 1, 3]), 4, 5)
    assert classes.tolist() == [0, 1, 3, 2]
    assert target.tolist() == [0, 1, 2]


def test_adapter_range_beyond_the_encoder_is_refused(tiny_clip_path: Path) -> None:
    clip_model = build_clip(torch.load(tiny_clip_path, weights_only=True))
    with pytest.raises(ValueError, match="ADAPTER_END 12 .* text encoder's 4 blocks"):
        adapters(clip_model, ADAPTER_END=12)


def test_a_checkpoint_of_the_published_code_loads_strictly(model: CustomCLIP, tmp_path: Path) -> None:
    """Dassl's dictionary, published names, and the published buffer tk_prompts among the weights."""
    from adapt.adapter_file import load_strictly

    learner = model.adapter_learner
    published = {name: torch.randn_like(tensor) for name, tensor in learner.state_dict().items()}
    load_strictly(learner, published | {"tk_prompts": torch.zeros(4, 20, 77)}, tmp_path / "model.pth.tar-30")
    for name, tensor in learner.state_dict().items():
        assert torch.equal(tensor, published[name])
    before = {name: tensor.clone() for name, tensor in published.items()}
    wrong = {name: torch.zeros_like(tensor) for name, tensor in published.items()}
    del wrong["visual_adapter.3.mlp_conv.up.weight"]
    wrong |= {"visual_adapter.13.mlp_conv.up.weight": torch.zeros(1)}
    wrong["text_adapter.1.att_conv.up.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="does not fit") as refused:
        load_strictly(learner, wrong, tmp_path / "model.pth.tar-30")
    message = str(refused.value)
    assert "missing visual_adapter.3.mlp_conv.up.weight" in message
    assert "unexpected visual_adapter.13.mlp_conv.up.weight" in message
    assert "of another shape text_adapter.1.att_conv.up.weight (2, 2) instead of (128, 32)" in message
    for name, tensor in learner.state_dict().items():  # nothing was half loaded
        assert torch.equal(tensor, before[name])


def test_a_resnet_is_refused() -> None:
    with torch.device("meta"):
        backbone = CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12)
    with pytest.raises(ValueError, match="vision transformers"):
        adapters(backbone)


def test_class_features_do_not_depend_on_how_many_tokens_run_at_once(
    model: CustomCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.eval()
    passes = []
    encode = model.encode_text
    monkeypatch.setattr(model, "encode_text", lambda packed: passes.append(packed) or encode(packed))
    expected = model.text_features()
    assert len(passes) == 1
    monkeypatch.setattr("adapt.model.TOKENS_AT_ONCE", 20)
    torch.testing.assert_close(model.text_features(), expected)
    assert len(passes) > 3
    assert sum(len(packed.ends) for packed in passes[1:]) == len(model.prompts.tokens)
    assert all(len(packed.tokens) <= 20 + 77 for packed in passes[1:])


def test_a_pass_counts_the_places_behind_its_texts() -> None:
    prompts = ClassPrompts.tokenize([["a photo of a cat"]] * 40)  # of 7 tokens
    assert {len(chosen) for chosen in prompts.batches(70)} == {10}
    assert {len(chosen) for chosen in replace(prompts, lookahead=7).batches(70)} == {5}
    assert {len(chosen) for chosen in replace(prompts, lookahead=100).batches(770)} == {10}  # never over 77


def test_a_long_text_makes_no_pass_of_short_ones_larger_than_allowed() -> None:
    prompts = ClassPrompts.tokenize([["a cat"] * 30, ["a " * 70]])
    passes = prompts.batches(100)
    assert [len(chosen) for chosen in passes] == [25, 5, 1]
    assert all(pack(prompts.tokens[chosen]).visible.numel() <= 100 for chosen in passes)


def test_class_means_are_those_of_each_class_whatever_its_number_of_prompts() -> None:
    counts = torch.tensor([3, 1, 20, 3, 7])
    features = torch.randn(34, 6)
    expected = torch.stack([group.mean(0) for group in features.split(counts.tolist())])
    torch.testing.assert_close(class_means(features, counts), expected)

"""HeBA's invariants on a tiny random CLIP."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from adapt.attach import SlowFastLearner
from adapt.method import build_model
from adapt.model import CustomCLIP, class_means
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


def test_class_features_are_kept_where_asked_and_else_follow_weights_scale_and_classes_at_once(
    model: CustomCLIP, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.eval()
    computed, text_features = [], model.text_features
    monkeypatch.setattr(model, "text_features", lambda: computed.append(1) or text_features())
    with torch.no_grad():
        first = model(images)
        with model.keep_text_features():
            for _ in range(2):
                assert torch.equal(model(images), first)
        assert len(computed) == 2  # once before, once for both
        model.adapter_learner.set_scale(0.5)
        second = model(images)
        assert not torch.allclose(first, second)
        model.adapter_learner.text_adapter["1"]["att_conv"].up.weight.mul_(2)
        assert not torch.allclose(model(images), second)
        model.prompts = ClassPrompts.tokenize([["one class"]])
        assert model(images).shape == (5, 1)


def test_a_class_may_have_any_number_of_prompts() -> None:
    prompts = ClassPrompts.tokenize([["a"], ["b", "c", "d"], ["e", "f"]])
    drawn = {tuple(prompts.draw(torch.tensor([1])).tokens.tolist()) for _ in range(100)}
    assert drawn == {tuple(row[:3].tolist()) for row in clip.tokenize(["b", "c", "d"])}


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
    classes, target = sample_classes(torch.tensor([0, 1, 3]), 4, 5)  # of one the published code makes a crash
    assert (classes.tolist(), target.tolist()) == ([0, 1, 3, 2], [0, 1, 2])


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
    with pytest.raises(ValueError, match="; and 1 more; use the backbone"):
        load_strictly(learner, published | {f"more.{n}": torch.zeros(1) for n in range(7)}, tmp_path)
    for name, tensor in learner.state_dict().items():  # nothing was half loaded
        assert torch.equal(tensor, before[name])


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

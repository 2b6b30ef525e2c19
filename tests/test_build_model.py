"""``build_model`` as somebody calls it who has no run: options are completed, mistakes are named."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from adapt.method import build_model
from clip.model import CLIP
from clip.model import build_model as build_clip
from tests.conftest import ROOT
from tests.goldens import tiny_clip_weights
from trainers import heba_ablations, rmadapter_ablations
from trainers.coop import CoOp
from trainers.heba import HeBA
from trainers.rmadapter import RMAdapter
from trainers.zsclip import ZeroshotCLIP

HEBA = {"ADAPTER_END": -1, "TEMPLATES": ("a photo of a {}.",)}


@pytest.fixture
def backbone() -> CLIP:
    return build_clip(tiny_clip_weights())


def test_options_that_are_not_given_have_their_defaults(backbone: CLIP) -> None:
    model = build_model(HeBA.method, SimpleNamespace(**HEBA), ["cat", "dog"], backbone)
    assert model.method.options.REDUCTION == 4.0
    assert model.method.options.ADAPTER_END == -1


def test_one_option_of_an_ablation_is_enough(backbone: CLIP) -> None:
    model = build_model(HeBA.method, HEBA | {"NORM": "none"}, ["cat", "dog"], backbone)
    assert type(model.method) is heba_ablations.Ablation
    other = RMAdapter.method.from_options({"SHARING": "up"})
    assert type(other) is rmadapter_ablations.Ablation


@pytest.mark.parametrize("value", ["none", "bogus"])
def test_an_ablation_whose_file_is_not_imported_is_refused(value: str) -> None:
    code = f"from trainers.heba import HeBA\nHeBA.method.from_options({{'NORM': '{value}'}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ValueError: TRAINER.HeBA.NORM is unknown; known there: ADAPTER_END, " in done.stderr
    assert "once its file in trainers/ is imported" in done.stderr


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        (HeBA, {"ADAPTER_STRAT": 1}),
        (HeBA, {"KERNEL": 3.0}),
        (HeBA, {"KERNEL": True}),
        (HeBA, {"REDUCTION": "4"}),
        (HeBA, {"NEG_SAMPLING_RATIO": 1.5}),
        (HeBA, {"ADAPTER_START": "1"}),
        (HeBA, {"PREC": ["fp32"]}),
        (HeBA, {"PREC": "fp23"}),
        (RMAdapter, {"REC_LAYERS": 1.0}),
        (RMAdapter, {"ADAPTER_DIM": 1.5}),
        (CoOp, {"CTX_INIT": None}),
        (CoOp, {"CSC": "x"}),
    ],
)
def test_an_unknown_option_or_value_is_named(trainer: type, options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=rf"TRAINER\.{trainer.options_name}\.{name} is "):
        trainer.method.from_options(options)


@pytest.mark.parametrize(
    ("classnames", "said"),
    [
        ("cat", 'classnames is the text "cat"'),
        ([], "there are no classes"),
        (["cat", "Cat"], 'classnames: the prompts of classes "cat" and "Cat" are the same'),
        (["cat", " "], "is empty; give the class a name"),
    ],
)
@pytest.mark.parametrize("trainer", [ZeroshotCLIP, CoOp])
def test_class_names_that_cannot_be_told_apart_are_refused(
    trainer: type, classnames: object, said: str, backbone: CLIP
) -> None:
    with pytest.raises(ValueError, match=said):
        build_model(trainer.method, {}, classnames, backbone)


@pytest.mark.parametrize(
    ("trainer", "prompts"),
    [
        (ZeroshotCLIP, ["a cat", "a dog"]),
        (ZeroshotCLIP, [["a cat"], []]),
        (CoOp, [["cat"], ["dog"]]),
        (CoOp, [[f"{' '.join('X' * 16)} cat."] * 2]),
    ],
)
def test_prompts_of_another_form_are_refused(trainer: type, prompts: object, backbone: CLIP) -> None:
    with pytest.raises(ValueError, match="a class has the prompts "):
        build_model(trainer.method, {}, ["cat", "dog"], backbone, prompts=prompts)


def test_a_clip_is_not_adapted_twice(backbone: CLIP) -> None:
    build_model(HeBA.method, HEBA, ["cat", "dog"], backbone)
    with pytest.raises(ValueError, match=r"has the adapters of TRAINER\.HeBA already; load another"):
        build_model(HeBA.method, HEBA, ["cat", "dog"], backbone)

"""RMAdapter against its equations; there is no published code to compare with."""

import copy
import math

import pytest
import torch
from yacs.config import CfgNode

from adapt.method import Batch, Method, build_model
from adapt.model import CustomCLIP, adapter_weights
from adapt.prompts import ClassPrompts
from clip.layout import pack
from clip.model import CLIP
from clip.model import build_model as build_clip
from runner.config import setup_cfg
from tests.conftest import ROOT
from tests.goldens import build, tiny_clip_weights
from tests.rmadapter_reference import Reference
from train import parse_args
from trainers.clip_trainer import ClipTrainer
from trainers.mmadapter import MultiModalAdapter
from trainers.mmadapter_pp import MultiModalAdapterPP
from trainers.rmadapter import RMAdapter
from trainers.rmadapter_ablations import CHOICES, VariedAdapter

CLASSES = ["accordion", "airplane", "ant", "brain"]
TARGET = torch.tensor([3, 0, 1])
FIRST, LAST = 2, 4  # adapted blocks of the tiny CLIP's 4
ALL_CHOICES = CHOICES | {"CON_REDUCTION": ("mean", "sum")}
CONFIGS = ROOT / "configs" / "trainers" / "RMAdapter"


def configuration(name: str = "base2new", **options: object) -> CfgNode:
    pairs = [word for key, value in options.items() for word in (f"TRAINER.RMADAPTER.{key}", str(value))]
    file = str(CONFIGS / f"{name}.yaml")
    return setup_cfg(parse_args(["--trainer", "RMAdapter", "--config-file", file, *pairs]))


def built(**options: object) -> CustomCLIP:
    """The tiny CLIP with the adapters, prepared for training; every adapter weight is random, biases too."""
    settings = {"PREC": "fp32", "ADAPTER_START": FIRST, "ADAPTER_END": LAST, "ADAPTER_SCALE": 0.3, **options}
    own = configuration(**settings).TRAINER.RMADAPTER
    model = build_model(RMAdapter.method, own, CLASSES, build_clip(tiny_clip_weights()))
    generator = torch.Generator().manual_seed(0)
    for weight in adapter_weights(model).values():
        weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    with model.method.precision.autocast(torch.device("cpu")):
        model.method.before_training(model)
    model.adapter_learner.train()
    return model


def loss_terms(model: CustomCLIP) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return model.method.loss_terms(model, Batch(images(), pack(model.prompts.tokens), TARGET))


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


CASES = [
    {},
    {"ADAPTER_SCALE": 0.001},
    {"LAMBDA1": 3.0, "LAMBDA2": 0.5, "LAMBDA3": 2.0, "LAMBDA4": 7.0},
    {"LAMBDA1": 0.0, "LAMBDA2": 0.0, "LAMBDA3": 0.0, "LAMBDA4": 0.0},
    {"LAMBDA1": 0.0},
    {"LAMBDA2": 0.0, "LAMBDA4": 0.0},
    {"CON_REDUCTION": "sum"},
    {"SHARING": "up"},
    {"SHARING": "none"},
    {"REC_LAYERS": 1},
    {"REC_LAYERS": 3},
    {"REC_LOSS": "l1"},
    {"REC_LOSS": "cosine"},
    {"REC_REDUCTION": "sum"},
    {"REC_TARGET": "output"},
    {"REC_LOCAL": False, "GRADIENT_RULE": "exact"},
    {"REC_LOCAL": False, "GRADIENT_RULE": "exact", "REC_TARGET": "output", "ADAPTER_INPUT": "ln_1"},
    {"GRADIENT_RULE": "exact"},
    {"ADAPTER_INPUT": "ln_1"},
]


@pytest.mark.parametrize(
    "options", CASES, ids=lambda options: " ".join(map(str, options.values())) or "default"
)
def test_a_training_step_is_that_of_the_equations(options: dict) -> None:
    model = built(**options)
    reference = Reference(model.method.options, model.adapter_learner.state_dict())
    logits, terms = loss_terms(model)
    expected_logits, expected = reference.loss_terms(images(), model.prompts.tokens, TARGET)
    torch.testing.assert_close(logits.double(), expected_logits, rtol=1e-5, atol=1e-5)
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        torch.testing.assert_close(term.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
    torch.stack(list(terms.values())).sum().backward()
    gradients = reference.gradients(expected)
    for name, weight in model.adapter_learner.named_parameters():
        distance = (weight.grad - gradients[name]).norm() / gradients[name].norm()
        assert distance < 2e-5, f"{name}: relative L2 distance {distance:.2e}"


def test_losses_are_kept_in_training_alone_and_forgotten_when_taken() -> None:
    found = built()
    model, learner = found, found.adapter_learner

    def kept() -> list[bool]:
        return [adapter.loss is not None for adapter in learner.adapters()]

    tokens = pack(model.prompts.tokens)
    model.eval()
    model(images(), tokens).sum().backward()
    assert not any(kept())
    learner.train()
    with torch.no_grad():
        model(images(), tokens)
    assert not any(kept())
    loss_terms(model)
    assert not any(kept())
    model(images(), tokens)  # a pass whose losses are not recorded
    assert not any(kept())
    copy.deepcopy(model)  # refused by torch if part of a graph were left


def method(cfg: CfgNode) -> Method:
    return RMAdapter.method_of(cfg)


def size(**options: object) -> tuple[int, int]:
    """Weights at ViT-B/16: of all branches, and of the reconstructing one alone."""
    with torch.device("meta"):
        backbone = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
        learner = method(configuration(**options)).attach_adapters(backbone, ClassPrompts.tokenize([["a"]]))
    weights = dict(learner.named_parameters())  # a shared one counts once
    rec = [weight for name, weight in weights.items() if ".rec_" in name]
    return sum(map(torch.Tensor.numel, weights.values())), sum(map(torch.Tensor.numel, rec))


def test_sizes_at_vit_b16() -> None:
    """The paper says 320 K for the branch: W_2 has 327,680, both matrices have 344,064, without biases."""
    assert size() == (1_020_928, 354_816)
    assert size(LAMBDA1=0, LAMBDA2=0) == (666_112, 0)
    assert size(LAMBDA1=0) == (666_112 + 143_616, 143_616)
    assert size(REC_LAYERS=1) == (666_112 + 337_920, 337_920)
    assert size(REC_LAYERS=3) == (666_112 + 371_712, 371_712)
    assert size(SHARING="none") == (666_112 + 683_008, 683_008)
    assert size(SHARING="up") == (666_112 + 345_088, 345_088)


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        (RMAdapter, {}),
        (RMAdapter, {"SHARING": "none", "REC_LAYERS": 3}),
        (MultiModalAdapter, {}),
        (MultiModalAdapterPP, {}),
    ],
)
def test_initial_values_are_he_normal_over_outputs_and_biases_zero_but_for_mmapp(
    trainer: type[ClipTrainer], options: dict
) -> None:
    found = build(trainer, ["a"], prompts=[["a"]], ADAPTER_START=1, ADAPTER_END=4, **options).adapter_learner
    for name, weight in found.named_parameters():
        if name.endswith("bias"):
            assert weight.any() == (trainer is MultiModalAdapterPP), name
        else:
            tolerance = 4 / weight.numel() ** 0.5
            assert abs(weight.std() * (len(weight) / 2) ** 0.5 - 1) < tolerance, name  # sqrt(2 / outputs)


@pytest.mark.parametrize("name", ["fp16", "amp", "bf16"])
def test_half_precisions_give_the_losses_of_float32(name: str) -> None:
    full, half = built(), built(PREC=name)
    with half.method.precision.autocast(torch.device("cpu")):
        found = loss_terms(half)[1]
    expected = loss_terms(full)[1]
    for term in expected:
        assert found[term].dtype == torch.float32
        assert abs(found[term] / expected[term] - 1) < (0.05 if name == "bf16" else 0.01), term


def test_a_varied_adapter_with_default_options_computes_the_same() -> None:
    found = built()
    one = found.adapter_learner.visual_adapter["3"]
    other = VariedAdapter(128, found.method.options, 1.0)
    other.load_state_dict(
        one.state_dict() | {f"rec_{k}": v for k, v in one.state_dict().items() if k[:4] == "down"}
    )
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(x), other(x))
    assert torch.equal(one.reconstruction_loss(x), other.reconstruction_loss(x))


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_configurations_load(name: str) -> None:
    cfg = configuration(name)
    RMAdapter.method_of(cfg)
    defaults = configuration().TRAINER.RMADAPTER
    if name != "demo":
        assert defaults == cfg.TRAINER.RMADAPTER
    assert cfg.OPTIM.NAME == "sgd"


def test_the_prompt_is_one_template_for_all_or_the_data_sets_own() -> None:
    cfg = configuration()
    assert method(cfg).prompts(["ceiling_fan"]) == [["a photo of a ceiling fan."]]
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.TEMPLATE = "an X-ray of a {}."
    assert method(cfg).prompts(["ceiling_fan"]) == [["an X-ray of a ceiling fan."]]


WRONG: list[tuple[str, object]] = [
    (key, 7 if key == "REC_LAYERS" else "other") for key in ALL_CHOICES if key != "REC_LOCAL"
]
WRONG += [("LAMBDA1", -1.0), ("LAMBDA4", math.inf), ("ADAPTER_SCALE", math.nan), ("ADAPTER_DIM", 0)]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_impossible_values_are_refused(key: str, value: object) -> None:
    cfg = configuration()
    cfg.defrost()
    cfg.TRAINER.RMADAPTER[key] = value
    with pytest.raises(ValueError, match=f"TRAINER.RMADAPTER.{key} is .*{value}.*; set it to"):
        RMAdapter.method_of(cfg)


def ablations() -> dict[str, list[str]]:
    """The variants of ablate.sh and their KEY VALUE pairs."""
    text = (ROOT / "scripts" / "rmadapter" / "ablate.sh").read_text()
    lines = text.split("<<'VARIANTS'\n")[1].split("\nVARIANTS\n")[0].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_every_ablation_is_a_model_of_its_own() -> None:
    def settings(pairs: list[str]) -> tuple:
        file = str(CONFIGS / "base2new.yaml")
        options = setup_cfg(
            parse_args(["--trainer", "RMAdapter", "--config-file", file, *pairs])
        ).TRAINER.RMADAPTER
        return tuple(sorted(options.items()))

    variants = {name: settings(pairs) for name, pairs in ablations().items()}
    assert len(set(variants.values())) == len(variants) == 9
    assert variants["full"] == settings([])

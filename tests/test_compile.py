"""``MODEL.COMPILE``: whole blocks in one graph each, few of them, and the results of the plain way."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F

import train
from adapt.compiling import compile_encoders
from adapt.method import build_model
from adapt.model import CustomCLIP
from clip.model import CLIP
from clip.model import build_model as build_clip
from tests.test_heba import CLASSES, options
from tests.test_train import command
from trainers.heba import HeBA

pytestmark = pytest.mark.skipif(
    not hasattr(torch._dynamo.config, "recompile_limit"), reason="MODEL.COMPILE needs torch 2.7"
)


@pytest.fixture
def model(tiny_clip_path: Path) -> CustomCLIP:
    torch.manual_seed(1)
    torch._dynamo.reset()
    counters.clear()
    clip_model = build_clip(torch.load(tiny_clip_path, weights_only=True)).float()
    prompts = [[f"a photo of a {name}.", f"a photo of a {name}, far longer."] for name in CLASSES]
    return build_model(HeBA.method, options(SLOW_FAST_RATIO=0.5), CLASSES, clip_model, prompts=prompts)


def step(model: CustomCLIP, seed: int) -> list[torch.Tensor]:
    """Loss and gradients of a training step whose prompts and scales depend on the seed."""
    model.zero_grad(set_to_none=True)
    model.adapter_learner.train()
    torch.manual_seed(seed)
    image, tokens = torch.randn(4, 3, 32, 32), model.prompts.draw(torch.tensor([2, 0, 3, 1]))
    with model.adapter_learner.drawn_scales():
        loss = F.cross_entropy(model(image, tokens), torch.arange(4))
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in model.adapter_learner.parameters())]


@torch.no_grad()
def evaluate(model: CustomCLIP) -> torch.Tensor:
    model.adapter_learner.eval()
    return model(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def test_compiled_encoders_have_no_graph_break_few_graphs_and_the_same_results(model: CustomCLIP) -> None:
    names = list(model.state_dict())
    expected, logits = [step(model, seed) for seed in range(3)], evaluate(model)
    compile_encoders(model.clip, backend="eager", fullgraph=True)  # an error at any graph break
    for seed, plain in enumerate(expected):
        torch.testing.assert_close(step(model, seed), plain)
    torch.testing.assert_close(evaluate(model), logits)
    for seed in range(3, 8):  # until every kind of block was met
        step(model, seed)
    trained = graphs()
    # training: two towers, slow or fast, first or later block, and the last; evaluation: two for each tower
    assert 0 < trained <= 2 * 2 * 3 + 2 * 2
    for seed in range(8, 16):  # other prompts, lengths and draws of the scales
        step(model, seed)
    assert graphs() == trained
    assert list(model.state_dict()) == names


def test_a_deep_copy_of_compiled_encoders_computes_with_its_own_weights(model: CustomCLIP) -> None:
    compile_encoders(model.clip, backend="eager")
    logits = evaluate(model)
    copy = deepcopy(model)
    with torch.no_grad():
        for tower in (copy.clip.transformer, copy.clip.visual.transformer):
            tower.resblocks[-1].mlp.c_proj.weight.zero_()
    assert not torch.allclose(evaluate(copy), logits)
    torch.testing.assert_close(evaluate(model), logits)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_key_compiles_the_encoders_that_a_run_trains(
    compiled: bool, tmp_path: Path, toy_data: Path, toy_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr("trainers.clip_trainer.compile_encoders", given.append)
    opts = [*toy_flags, "OPTIM.MAX_EPOCH", "1", "MODEL.COMPILE", str(compiled)]
    train.main(command(toy_data, tmp_path, opts))
    assert [type(model) for model in given] == [CLIP] * compiled

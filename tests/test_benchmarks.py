"""The plain side of the benchmarks computes what the published code does; the scripts run and count right."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import SIZES
from benchmarks.reference import PublishedHeBA
from benchmarks.sides import Work, make
from tests.conftest import ROOT
from tests.test_heba_goldens import close, fill, same_gradient, tiny_clip_weights

GOLDENS = Path(__file__).parent / "data" / "heba_tiny.npz"


@pytest.fixture(scope="module")
def goldens() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDENS))


@pytest.fixture(scope="module")
def published(goldens: dict[str, np.ndarray]) -> PublishedHeBA:
    weights = {name: tensor.float() for name, tensor in tiny_clip_weights().items()}
    model = PublishedHeBA(weights, torch.from_numpy(goldens["tk_prompts"]))
    fill(model.adapter_learner)
    return model


def test_the_plain_reference_evaluates_like_the_published_code(
    published: PublishedHeBA, goldens: dict[str, np.ndarray]
) -> None:
    published.eval().set_scales()
    text = published.text_features()
    close(text, goldens["eval_base/text_features_mean_normalized"])
    close(published.predict(torch.from_numpy(goldens["images"]), text), goldens["eval_base/logits"])


@pytest.mark.parametrize(("case", "ratio"), [("train_slow", 1.0), ("train_fast", -1.0)])
def test_the_plain_reference_learns_like_the_published_code(
    published: PublishedHeBA, goldens: dict[str, np.ndarray], case: str, ratio: float
) -> None:
    published.train()
    published.ratio, published.negatives = ratio, -1
    published.set_scales()
    published.zero_grad(set_to_none=True)
    image, label, tokens = (
        torch.from_numpy(goldens[name]) for name in ("images", f"{case}/label_out", f"{case}/tokens")
    )
    loss, logits = published.loss(image, label, tokens)
    loss.backward()
    close(loss, goldens[f"{case}/loss"])
    close(logits, goldens[f"{case}/logits"])
    for name, weight in published.adapter_learner.named_parameters():
        same_gradient(weight.grad, goldens[f"{case}/grad/{name}"], name)


def test_negative_classes_of_the_reference(published: PublishedHeBA) -> None:
    published.negatives = 2
    label = torch.tensor([7, 3, 7])
    chosen, target = published.sample(label)
    assert len(chosen) == len(set(chosen)) == 6
    assert [chosen[place] for place in target] == label.tolist()


@pytest.mark.parametrize("job", ["text", "eval"])
def test_both_sides_compute_the_same(job: str) -> None:
    work = Work(job, images=4, classes=5, descriptions=3, backbone="tiny")
    device = torch.device("cpu")
    torch.testing.assert_close(
        make("published", work, device)(), make("fp32", work, device)(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("job", ["step", "eval"])
def test_no_more_operations_are_called_necessary_than_torch_counts(job: str) -> None:
    """torch adds padding, the unseen half of causal attention, what attention computes again: below 7 %."""
    work = Work(job, images=16, classes=8, backbone="tiny")
    run = make("fp32", work, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        run()
    assert 0.93 <= work.operations() / counter.get_total_flops() <= 1


def test_operations_of_a_vit_b16_are_near_what_is_known() -> None:
    """35 GFLOP an image for CLIP itself; adapters on 196 tokens add 2 x 60 M weights a token."""
    image = SIZES["ViT-B/16"].image
    frozen = image.embedding([197]) + image.frozen([197]) + image.attention([197])
    assert frozen == pytest.approx(33.3e9, rel=0.02)  # without 11/12 of the last block
    assert image.adapters([197]) == pytest.approx(2 * 196 * 60.3e6 * 11.06 / 12, rel=0.01)


def test_a_script_prints_a_row_for_each_side() -> None:
    command = [
        sys.executable,
        "benchmarks/step.py",
        "--backbone",
        "tiny",
        "--device",
        "cpu",
        "--prompts",
        "6",
    ]
    command += ["--rounds", "1", "--warm-up", "0", "--sides", "published", "fp32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [line.split("|")[2].strip() for line in lines] == ["side", "-" * 11, "published", "fp32"]
    assert lines[2].count("1.00x") == 2

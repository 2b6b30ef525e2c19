"""The plain side of the benchmarks computes what the published code does; the scripts run and count right."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks import common, step
from benchmarks.flops import SIZES
from benchmarks.loader import make_images, training_loader
from benchmarks.reference import PublishedHeBA
from benchmarks.sides import Work, make
from benchmarks.table1 import Rates, evaluation, protocols, read_datasets, training
from tests.goldens import tiny_clip_weights
from tests.test_heba_goldens import close, fill, same_gradient

# What torch's counter forgets (products in place; in old versions attention on a CPU) or counts too high
# (the backward pass of depthwise convolutions), by the shapes of the operands.
MISCOUNTED = {
    torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1],
    torch.ops.aten.convolution_backward: lambda g, _, w, *__, **___: 4 * math.prod(g) * math.prod(w[1:]),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(
        q, k, v
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
    ),
}
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
    assert len(chosen) == len(chosen.unique()) == 6
    assert torch.equal(chosen[target], label)


@pytest.mark.parametrize("job", ["text", "eval"])
def test_both_sides_compute_the_same(job: str) -> None:
    work = Work(job, images=4, classes=5, descriptions=3, backbone="tiny")
    device = torch.device("cpu")
    torch.testing.assert_close(
        make("published", work, device)(), make("fp32", work, device)(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("job", "images", "classes", "side"),
    [("step", 16, 8, "fp32"), ("eval", 16, 8, "fp32"), ("step", 2, 40, "fp32"), ("step", 2, 40, "published")],
)
def test_no_more_operations_are_called_necessary_than_torch_counts(
    job: str, images: int, classes: int, side: str
) -> None:
    """torch adds padding, the unseen half of causal attention, what attention computes again: below 7 %."""
    work = Work(job, images=images, classes=classes, backbone="tiny")
    run = make(side, work, torch.device("cpu"))
    with FlopCounterMode(display=False, custom_mapping=MISCOUNTED) as counter:
        run()
    least = 0.93 if side == "fp32" else 0.2  # the published way computes 77 tokens of each prompt
    assert least <= work.operations() / counter.get_total_flops() <= 1


def test_operations_of_a_vit_b16_are_near_what_is_known() -> None:
    """35 GFLOP an image for CLIP itself; adapters on 196 tokens add 2 x 60 M weights a token."""
    image = SIZES["ViT-B/16"].image
    frozen = image.embedding([197]) + image.frozen([197]) + image.attention([197])
    assert frozen == pytest.approx(33.3e9, rel=0.02)  # without 11/12 of the last block
    assert image.adapters([197]) == pytest.approx(2 * 196 * 60.3e6 * 11.06 / 12, rel=0.01)


def test_a_script_prints_a_row_for_each_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["step.py", "--backbone", "tiny", "--device", "cpu", "--prompts", "6"]
    command += ["--rounds", "1", "--warm-up", "0", "--sides", "published", "fp32"]
    monkeypatch.setattr(sys, "argv", command)
    step.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[2].strip() for line in lines] == ["side", "-" * 11, "published", "fp32"]
    assert lines[2].count("1.00x") == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rounds", "0"], '"0" is no such number; set it to 1 or more'),
        (["--warm-up", "-1"], '"-1" is no such number; set it to 0 or more'),
        (["--json", "nowhere/x.json"], '"nowhere/x.json" is in no folder; make it first'),
        (["--backbone", "nope"], "invalid choice: 'nope'"),
        (["--sides", "fp33"], "invalid choice: 'fp33'"),
        (["--lengths", "nope"], "invalid choice: 'nope'"),
        (["--weights", "nope.pt"], 'there is no "nope.pt"'),
        (["--device", "tpu"], '"tpu" is not known; set it to cpu or cuda'),
    ],
)
def test_a_mistaken_flag_is_refused_before_anything_runs(
    flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        common.parser("").parse_args(flags)
    assert message in capsys.readouterr().err


def test_a_file_of_too_few_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few.json").write_text('{"cat": ["small"], "dog": ["large"]}')
    args = common.parser("").parse_args(["--prompts-file", str(tmp_path / "few.json")])
    assert common.work(args, "text", classes=2).tokens().shape == (2, 1, 77)
    with pytest.raises(SystemExit, match="describes 2 classes, but 3 are asked for"):
        common.work(args, "text", classes=3)


def test_the_projection_counts_steps_prompts_and_images() -> None:
    """One second for everything: 16 shots of 24 classes are 24 steps an epoch."""
    rates = Rates(few=1, many=1, prompt=1, image=1, load=1, start=1)
    run = training(rates, classes=24, test=100)
    assert run.parts == {
        "training steps": 24 * 30,
        "text features": 24 * 20,
        "evaluating images": 100,
        "waiting for images": 24 * 30 * 16 - 24 * 30,  # beside the steps
        "starting": 1,
    }
    novel = evaluation(rates, classes=23, test=90, scales=2)
    assert (novel.parts["text features"], novel.parts["evaluating images"]) == (2 * 23 * 20, 180)
    slower = Rates(few=2, many=3.8, prompt=0, image=0, load=0, start=0)  # 0.025 s a prompt, 1.4 s for images
    assert slower.step(50) == pytest.approx(1.4 + 50 * 0.025)
    assert slower.step(500) == pytest.approx(1.4 + 96 * 0.025)
    assert slower.step(16) == pytest.approx(1.4 + 16 * 0.025)


def test_protocols_hold_the_runs_of_the_paper() -> None:
    runs = protocols(Rates(1, 1, 1, 1, 1, 1), read_datasets())
    counts = {name: len(made) for name, made in runs.items()}
    assert counts == {"base-to-novel": 3 * 11 * 2, "cross-dataset": 3 * 11, "domain generalisation": 3 * 5}
    assert sum(run.train for run in runs["base-to-novel"]) == 3 * 30 * 1098  # base classes of all sets


def test_the_loader_reads_every_image_once(tmp_path: Path) -> None:
    make_images(tmp_path, 6, (48, 32))
    loader = training_loader(sorted(tmp_path.iterdir()), workers=0, batch=3)
    paths = [path for batch in loader for path in batch["impath"]]
    assert sorted(paths) == [str(path) for path in sorted(tmp_path.iterdir())]

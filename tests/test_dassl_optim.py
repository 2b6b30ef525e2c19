"""Optimisers and learning-rate schedules of dassl/."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer


def optim_cfg(**keys: Any) -> CfgNode:
    cfg = get_cfg_default().OPTIM
    cfg.update(NAME="sgd", LR=0.1, LR_SCHEDULER="cosine")
    cfg.update(keys)
    return cfg


def rates(cfg: CfgNode, epochs: int, resume_at: int = -1) -> list[float]:
    """Learning rate in each epoch; at ``resume_at`` everything goes through a file into new objects."""
    model = nn.Linear(1, 1)
    optim = build_optimizer(model, cfg)
    sched = build_lr_scheduler(optim, cfg)
    used = []
    for epoch in range(epochs):
        if epoch == resume_at:
            file = io.BytesIO()
            torch.save([optim.state_dict(), sched.state_dict()], file)
            file.seek(0)
            optim_state, sched_state = torch.load(file, weights_only=True)
            optim = build_optimizer(model, cfg)
            sched = build_lr_scheduler(optim, cfg)
            optim.load_state_dict(optim_state)
            sched.load_state_dict(sched_state)
        used.append(optim.param_groups[0]["lr"])
        assert sched.get_last_lr() == used[-1:]
        optim.step()
        sched.step()
    return used


def test_rates_are_those_of_the_published_configurations(assets: Path) -> None:
    goldens = json.loads((assets / "goldens" / "lr_schedules.json").read_text())
    del goldens["_note"]
    assert len(goldens) == 10
    for name, golden in goldens.items():
        expected = golden["lr_used_in_epoch_1..N"]
        cfg = optim_cfg(
            LR=golden["sgd"]["initial_lr"],
            MAX_EPOCH=len(expected),
            WARMUP_EPOCH=1 if expected[0] == 1e-5 else 0,
            WARMUP_TYPE="constant",
        )
        assert rates(cfg, len(expected)) == pytest.approx(expected, rel=1e-9, abs=1e-15), name
        optim = build_optimizer(nn.Linear(1, 1), cfg)
        for key in ("momentum", "dampening", "weight_decay", "nesterov"):
            assert optim.param_groups[0][key] == golden["sgd"][key]


def test_warm_up_and_steps() -> None:
    linear = optim_cfg(WARMUP_EPOCH=4, WARMUP_TYPE="linear", MAX_EPOCH=10)
    cosine = [0.05 * (1 + math.cos(math.pi * e / 10)) for e in range(10)]
    assert rates(linear, 10) == pytest.approx([1e-5, 0.025, 0.05, 0.075, *cosine[:6]])
    single = optim_cfg(LR_SCHEDULER="single_step", STEPSIZE=(9, 2), MAX_EPOCH=5)
    assert rates(single, 5) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    single.STEPSIZE = (-1,)
    assert rates(single, 5) == pytest.approx([0.1] * 5)


@pytest.mark.parametrize("resume_at", [1, 2, 3, 5])
def test_a_resumed_schedule_goes_on_exactly(resume_at: int) -> None:
    cfg = optim_cfg(WARMUP_EPOCH=3, WARMUP_TYPE="linear", MAX_EPOCH=8)
    assert rates(cfg, 8, resume_at) == rates(cfg, 8)


def test_the_state_of_dassls_own_schedule_is_understood() -> None:
    cfg = optim_cfg(MAX_EPOCH=6)
    optim = build_optimizer(nn.Linear(1, 1), cfg)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optim, 6.0)
    for _ in range(2):
        optim.step()
        theirs.step()
    ours = build_lr_scheduler(build_optimizer(nn.Linear(1, 1), cfg), cfg)
    ours.load_state_dict(theirs.state_dict())
    ours.optimizer.load_state_dict(optim.state_dict())
    for scheduler in (theirs, ours):
        scheduler.optimizer.step()
        scheduler.step()
    assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)


def test_a_loaded_schedule_gives_its_position_alone() -> None:
    old, new = optim_cfg(MAX_EPOCH=6), optim_cfg(MAX_EPOCH=9, LR=0.4, WARMUP_EPOCH=1)
    cut = build_lr_scheduler(build_optimizer(nn.Linear(1, 1), old), old)
    for _ in range(3):
        cut.optimizer.step()
        cut.step()
    loaded = build_lr_scheduler(build_optimizer(nn.Linear(1, 1), new), new)
    loaded.load_state_dict(cut.state_dict())
    expected = rates(new, 5)
    assert loaded.last_epoch == 3
    assert loaded.optimizer.param_groups[0]["lr"] == expected[3]
    loaded.optimizer.step()
    loaded.step()
    assert loaded.get_last_lr() == expected[4:]


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.99), "amsgrad": False}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.99)}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "dampening": 0, "nesterov": False}),
    ],
)
def test_optimisers(name: str, kind: type, settings: dict[str, Any]) -> None:
    cfg = optim_cfg(NAME=name, ADAM_BETA1=0.8, ADAM_BETA2=0.99, MOMENTUM=0.7)
    optim = build_optimizer(nn.Linear(2, 2), cfg)
    assert type(optim) is kind
    group = optim.param_groups[0]
    settings = {"lr": 0.1, "weight_decay": 5e-4, **settings}
    assert {key: group[key] for key in settings} == settings


def test_parameter_groups() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    groups = [{"params": model[0].parameters(), "lr": 0.5}]
    assert [g["lr"] for g in build_optimizer(model, optim_cfg(), param_groups=groups).param_groups] == [0.5]
    assert len(build_optimizer(model[1].parameters(), optim_cfg()).param_groups[0]["params"]) == 2


def test_mistakes_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='OPTIM.NAME is "radam"; set it to one of adam, .*; the original'):
        build_optimizer(model, optim_cfg(NAME="radam"))
    wrong = [
        ("MOMENTUM", -1, "sgd"),
        ("ADAM_BETA2", 1, "adam"),
        ("WEIGHT_DECAY", -1, "adamw"),
        ("LR", -1, "sgd"),
    ]
    for key, value, name in wrong:
        with pytest.raises(ValueError, match=f"OPTIM.{key} is {value}.*; set it to 0 or more"):
            build_optimizer(model, optim_cfg(NAME=name, **{key: value}))
    optim = build_optimizer(model, optim_cfg())
    with pytest.raises(ValueError, match='LR_SCHEDULER is "multi_step"; set it to one of .*; the original'):
        build_lr_scheduler(optim, optim_cfg(LR_SCHEDULER="multi_step"))
    with pytest.raises(ValueError, match='WARMUP_TYPE is "cosine"'):
        build_lr_scheduler(optim, optim_cfg(WARMUP_TYPE="cosine"))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_fused_step_is_the_plain_one(name: str) -> None:
    cfg = optim_cfg(NAME=name, LR=0.01, WEIGHT_DECAY=0.1)
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(7, 5))
    copy = nn.Parameter(weight.detach().clone())
    fused = build_optimizer([{"params": iter([weight]), "lr": 0.02}], cfg)
    assert fused.defaults["fused"]
    plain = build_optimizer([{"params": copy, "lr": 0.02}], cfg)
    plain.param_groups[0]["fused"] = False
    for _ in range(3):
        weight.grad = torch.randn(7, 5)
        copy.grad = weight.grad.clone()
        fused.step()
        plain.step()
    torch.testing.assert_close(weight, copy)


def test_a_device_without_a_fused_kernel_takes_the_plain_step() -> None:
    meta = nn.Linear(1, 1, device="meta")
    assert not build_optimizer(meta, optim_cfg()).defaults["fused"]


@pytest.mark.parametrize("overflows", [1, 3])
def test_first_steps_that_overflow_leave_no_momentum(overflows: int) -> None:
    """With loss scaling in float16 the first steps are often skipped; what follows is as if they were not."""
    cfg = optim_cfg(MOMENTUM=0.9, WEIGHT_DECAY=0.0)
    used, plain = nn.Linear(512, 512, bias=False), nn.Linear(512, 512, bias=False)
    plain.load_state_dict(used.state_dict())
    optim = build_optimizer(used, cfg)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.zeros(()))  # makes its state
    littered = torch.full((64, 512, 512), math.nan)  # what the memory of the momentum may hold
    del littered
    for step in range(overflows + 3):
        used.weight.grad = torch.full_like(used.weight, math.inf if step < overflows else 1.0)
        scaler.step(optim)
        scaler.update(2.0)
    expected = torch.optim.SGD(plain.parameters(), lr=cfg.LR, momentum=0.9)
    for _ in range(3):
        plain.weight.grad = torch.full_like(plain.weight, 0.5)
        expected.step()
    torch.testing.assert_close(used.weight, plain.weight)


def test_a_weight_whose_gradient_comes_later_has_momentum_from_then() -> None:
    cfg = optim_cfg(MOMENTUM=0.9, WEIGHT_DECAY=0.0)
    layer = nn.Linear(2, 2)
    optim = build_optimizer(layer, cfg)
    layer.weight.grad = torch.ones_like(layer.weight)
    optim.step()
    before = layer.bias.detach().clone()
    layer.bias.grad = torch.ones_like(layer.bias)
    optim.step()
    torch.testing.assert_close(layer.bias.detach(), before - cfg.LR)

"""Checkpoints of dassl/: written whole or not at all, read without running code, loaded strictly."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dassl.utils import (
    load_checkpoint,
    load_pretrained_weights,
    load_state_dict_strictly,
    read_dictionary,
    resume_from_checkpoint,
    save_checkpoint,
)
from fileio import atomic_write


def checkpoint_of(model: nn.Module, **entries: Any) -> dict[str, Any]:
    empty = {"epoch": 3, "optimizer": None, "scheduler": None, "val_result": None}
    return {"state_dict": model.state_dict(), **empty, **entries}


def test_saved_checkpoint_comes_back_without_module_prefix(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.module = nn.Linear(2, 3)
    save_checkpoint(checkpoint_of(model), str(tmp_path), is_best=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint",
        "model-best.pth.tar",
        "model.pth.tar-3",
    ]
    plain = nn.Linear(2, 3)
    assert resume_from_checkpoint(str(tmp_path), plain) == 3
    assert torch.equal(plain.weight, model.module.weight)


def test_a_failing_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(2, 3)
    save_checkpoint(checkpoint_of(model), str(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail_halfway(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail_halfway)
    for epoch in (3, 4):
        with pytest.raises(
            OSError, match=rf"^cannot write \".*-{epoch}\": disk full\? \(.*No space left.*\)$"
        ):
            save_checkpoint(checkpoint_of(model, epoch=epoch), str(tmp_path))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_that_outgrows_the_disk_is_named_and_taken_away(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = str(tmp_path / "weights.pth")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match=r'^cannot write "[^\n]*weights.pth": disk full\? \([^\n]+\)$'):  # noqa: SIM117
            with atomic_write(path) as file:
                torch.save(torch.zeros(1 << 20), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nframe #0: c10::Throw",
        "PytorchStreamWriter failed writing file data/0: file write failed",
    ],
)
def test_of_torchs_errors_only_failed_writes_are_the_disks(tmp_path: Path, message: str) -> None:
    path = str(tmp_path / "a")
    with (
        pytest.raises(OSError, match=r'^cannot write "[^\n]*a": disk full\? \([^\n]+\)$'),
        atomic_write(path),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="^CUDA error$"), atomic_write(path):
        raise RuntimeError("CUDA error")
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='File is not found at ".*gone"'):
        load_checkpoint(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match='File is not found at ".*checkpoint"'):
        resume_from_checkpoint(str(tmp_path), nn.Linear(1, 1))
    with pytest.raises(ValueError, match="File path is None"):
        load_checkpoint(None)
    path = tmp_path / "model.pth.tar-3"
    torch.save(checkpoint_of(nn.Linear(20, 20)), path)
    whole = path.read_bytes()
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"<html>quota exceeded</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="model.pth.tar-3.*cut off or not a checkpoint"):
            load_checkpoint(str(path))


OTHER_SHAPES = [
    ([1, 2], "it holds a list, not a dictionary"),
    (torch.zeros(2), "it holds a Tensor, not a dictionary"),
    ({"epoch": 1}, "has state_dict and epoch: it holds epoch;"),
    ({"state_dict": {}}, "has state_dict and epoch: it holds state_dict;"),
    ({f"w{n}": torch.zeros(1) for n in range(9)}, "it holds w0, w1, w2, w3, w4, w5 and 3 more;"),
    ({"state_dict": [1], "epoch": 1}, "has state_dict of type list and epoch of type int"),
    ({"state_dict": {}, "epoch": "x"}, "has state_dict of type dict and epoch of type str"),
    ({"state_dict": {"w": 3}, "epoch": 1}, r'"w" in "\S+" is no dense tensor \(int\)'),
    ({"state_dict": {"w": torch.zeros(1, device="meta")}, "epoch": 1}, "is no dense tensor"),
    ({"state_dict": {"w": torch.ones(2).to_sparse()}, "epoch": 1}, "is no dense tensor"),
]


@pytest.mark.parametrize(("content", "said"), OTHER_SHAPES)
def test_a_checkpoint_of_another_shape_is_one_line_that_says_what_was_found(
    tmp_path: Path, content: Any, said: str
) -> None:
    path = tmp_path / "model.pth.tar-3"
    torch.save(content, path)
    with pytest.raises(ValueError, match=said) as refused:
        load_checkpoint(str(path))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_content_that_contains_itself_is_one_line(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = {}
    for _ in range(300):
        deep = [deep]
    broad: Any = {}
    for _ in range(60):  # 2 ** 60 parts, 60 of them different
        broad = [broad, broad]
    path = tmp_path / "resume.pth.tar"
    for content in (circle, deep):
        torch.save({"extra": content}, path)
        with pytest.raises(ValueError, match=r'resume.pth.tar" .* contains itself; delete it, then fetch'):
            read_dictionary(str(path))
    torch.save({"extra": broad}, path)
    assert read_dictionary(str(path)).keys() == {"extra"}


def test_what_is_no_checkpoint_is_told_without_torchs_advice_to_run_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar-3"
    torch.jit.save(torch.jit.script(nn.Identity()), path)
    with pytest.raises(ValueError, match="not a checkpoint: it holds a TorchScript program"):
        load_checkpoint(str(path))
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a checkpoint: it starts with b'hello'; delete it"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.int(), "1 of another kind: weight torch.int32 instead of torch.float32"),
        (lambda w: w.to(torch.complex64), "1 of another kind: weight torch.complex64 instead of"),
        (lambda w: w * float("nan"), "1 with NaN or infinity: weight"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(change: Callable, said: str) -> None:
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    state = model.state_dict() | {"weight": change(model.weight.detach())}
    with pytest.raises(ValueError, match=said):
        load_state_dict_strictly(model, state, "file")
    assert torch.equal(model.weight, before)


class Scheduler:
    """Stands for the schedule object that Dassl pickles under warm-up."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.history = {"a": [1, np.float64(2.0)]}


def test_published_checkpoints_with_pickled_objects_load_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(2, 3)
    optim = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    state = checkpoint_of(
        model,
        optimizer=optim.state_dict(),
        scheduler={"successor": Scheduler(optim), "last_epoch": 1},
        val_result=np.float64(50.0),
    )
    torch.save(state, tmp_path / "model.pth.tar-3")
    (tmp_path / "checkpoint").write_text("model.pth.tar-3\n")
    loaded = load_checkpoint(str(tmp_path / "model.pth.tar-3"))
    assert torch.equal(loaded["state_dict"]["weight"], model.weight)
    assert loaded["epoch"] == 3
    assert "scheduler" not in loaded
    assert torch.equal(
        loaded["optimizer"]["state"][0]["momentum_buffer"], optim.state[model.weight]["momentum_buffer"]
    )
    assert 'holds pickled Python objects under "scheduler"' in caplog.text
    sched = torch.optim.lr_scheduler.StepLR(optim, 1)
    with pytest.raises(ValueError, match="training cannot continue from .*no scheduler state"):
        resume_from_checkpoint(str(tmp_path), model, optim, sched)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("evil-was-here", "w"))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": Evil()}}, "one.pth")
    with pytest.raises(ValueError, match="holds Python objects"):
        load_checkpoint("one.pth")
    torch.save({"state_dict": {}, "epoch": 1, "extra": Evil()}, "two.pth")
    assert load_checkpoint("two.pth") == {"state_dict": {}, "epoch": 1}
    Path("three.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="not a checkpoint: it holds Python objects, which are not loaded;"):
        load_checkpoint("three.pth")
    assert not Path("evil-was-here").exists()


def test_pretrained_weights_load_where_they_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    path = str(tmp_path / "weights.pth")
    torch.save({"state_dict": {"module.weight": other.weight.data, "bias": torch.zeros(9)}}, path)
    bias = model.bias.clone()
    load_pretrained_weights(model, path)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, bias)
    assert f"Successfully loaded pretrained weights from {path}" in caplog.messages
    assert "Layers discarded due to unmatched keys or size: ['bias']" in caplog.messages
    torch.save({"nothing": torch.zeros(1), "weight": 3}, path)
    with pytest.warns(UserWarning, match=r"Cannot load .* \(check the key names manually\)"):
        load_pretrained_weights(model, path)

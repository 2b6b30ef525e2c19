"""Between two log lines nothing makes the host wait for the device."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from yacs.config import CfgNode

import train
from dassl.engine.trainer import MetricMeter
from runner.config import setup_cfg
from tests.conftest import ROOT
from trainers.heba import HeBA

BATCHES = 4


class Steps(HeBA):
    """HeBA's own trainer on random images; logging reads the meters after the last step."""

    def __init__(self, cfg: CfgNode, device: str) -> None:
        self.place = torch.device(device)
        super().__init__(cfg)

    def build_data_loader(self) -> None:
        self.train_loader_x = [{"img": torch.randn(4, 3, 32, 32), "label": torch.arange(4)}] * BATCHES
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=[f"class {i}" for i in range(6)]))
        self.lab2cname = dict(enumerate(self.dm.dataset.classnames))

    def build_model(self) -> None:
        self.device = self.place
        super().build_model()


def trainer(device: str, clip_path: Path, output: Path, precision: str = "fp32") -> Steps:
    pairs = ["MODEL.BACKBONE.NAME", clip_path, "MODEL.BACKBONE.QUICK_GELU", True, "INPUT.SIZE", (32, 32)]
    pairs += ["TRAINER.HeBA.ADAPTER_END", -1, "TRAINER.HeBA.PREC", precision, "TRAIN.PRINT_FREQ", BATCHES]
    pairs += ["TRAINER.HeBA.TEMPLATES", ("a photo of a {}.", "{}"), "DATASET.NAME", "none"]
    file = ROOT / "configs" / "trainers" / "HeBA" / "base2new.yaml"
    words = ["--trainer", "HeBA", "--config-file", file, "--output-dir", output, *pairs]
    return Steps(setup_cfg(train.parse_args([str(word) for word in words])), device)


@pytest.fixture
def on_meta(tiny_clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A trainer on the meta device, whose tensors have no values: whoever asks for one gets an error."""
    is_enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for this device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device != "meta" and is_enabled(device))
    return trainer("meta", tiny_clip_path, tmp_path)


@pytest.mark.parametrize("read", [bool, float, torch.Tensor.tolist, torch.Tensor.cpu, torch.nonzero])
def test_reading_a_value_on_the_meta_device_is_an_error(read: Callable) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones((), device="meta"))


def test_only_the_log_line_reads_values_from_the_device(
    on_meta: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, logged = on_meta, []
    monkeypatch.setattr(steps, "check_anomaly", lambda: logged.append(steps.batch_idx))
    monkeypatch.setattr(MetricMeter, "__str__", lambda self: logged.append(len(self.meters)) or "")
    for name in ("_log_batch", "_write_curves", "_write_metrics"):
        monkeypatch.setattr(steps, name, lambda *_: None)
    steps.run_epoch()  # raises where anything reads a value
    assert logged == [BATCHES - 1, 2]


def test_what_a_step_sends_to_a_gpu_is_pinned(
    tiny_clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies from other memory may wait for the device, which neither the meta device nor torch tells."""
    model = trainer("cpu", tiny_clip_path, tmp_path).model
    sent, pinned = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, device, non_blocking: sent.append((x, non_blocking)) or x
    )
    model.method.batch(model, torch.randn(4, 3, 32, 32), torch.arange(4), torch.device("cuda"))
    assert len(sent) == len(pinned) > 5
    assert all(x is y and non_blocking for (x, non_blocking), y in zip(sent, pinned, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["amp", "bf16", "fp32"])
def test_a_gpu_is_not_waited_for_in_a_step(precision: str, tiny_clip_path: Path, tmp_path: Path) -> None:
    steps = trainer("cuda", tiny_clip_path, tmp_path, precision)
    steps.set_model_mode("train")
    steps.batch_idx, steps.num_batches = 0, BATCHES
    batch = {"img": torch.randn(4, 3, 32, 32).pin_memory(), "label": torch.arange(4)}
    steps.forward_backward(batch)  # the first step may set up libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            steps.forward_backward(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""Between two log lines nothing makes the host wait for the device."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from benchmarks.sides import Ours, Work
from dassl.engine import TrainerX
from dassl.engine.trainer import MetricMeter

BATCHES = 4


class Steps(Ours):
    """HeBA's own training steps on random images; logging reads the meters after the last one."""

    def check_cfg(self, cfg: object) -> None:
        super().check_cfg(cfg)
        cfg.TRAIN.PRINT_FREQ = BATCHES

    def run(self, work: Work) -> None:
        image, label = work.batch()
        self.train_loader_x = [{"img": image, "label": label}] * BATCHES
        self.max_epoch, self.output_dir = 1, ""
        TrainerX.run_epoch(self)


def trainer(device: str, precision: str = "fp32") -> tuple[Steps, Work]:
    work = Work("step", images=4, classes=6, backbone="tiny")
    return Steps(work, precision, torch.device(device)), work


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> tuple[Steps, Work]:
    """A trainer on the meta device, whose tensors have no values: whoever asks for one gets an error."""
    is_enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for this device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device != "meta" and is_enabled(device))
    with pytest.warns(UserWarning, match="no-op"):  # weights that are loaded into a model without values
        return trainer("meta")


@pytest.mark.parametrize("read", [bool, float, torch.Tensor.tolist, torch.Tensor.cpu, torch.nonzero])
def test_reading_a_value_on_the_meta_device_is_an_error(read: Callable) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones((), device="meta"))


def test_only_the_log_line_reads_values_from_the_device(
    on_meta: tuple[Steps, Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, work = on_meta
    logged = []
    monkeypatch.setattr(steps, "check_anomaly", lambda: logged.append(steps.batch_idx))
    monkeypatch.setattr(MetricMeter, "__str__", lambda self: logged.append(len(self.meters)) or "")
    for name in ("_log_batch", "_write_curves", "_write_metrics"):
        monkeypatch.setattr(steps, name, lambda *_: None)
    steps.run(work)  # raises where anything reads a value
    assert logged == [BATCHES - 1, 2]


def test_what_a_step_sends_to_a_gpu_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies from other memory may wait for the device, which neither the meta device nor torch tells."""
    steps, work = trainer("cpu")
    image, label = work.batch()
    sent, pinned = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, device, non_blocking: sent.append((x, non_blocking)) or x
    )
    steps.device = torch.device("cuda")
    steps.step_inputs({"img": image, "label": label})
    assert len(sent) == len(pinned) > 5
    assert all(x is y and non_blocking for (x, non_blocking), y in zip(sent, pinned, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["amp", "bf16", "fp32"])
def test_a_gpu_is_not_waited_for_in_a_step(precision: str) -> None:
    steps, work = trainer("cuda", precision)
    steps.set_model_mode("train")
    image, label = work.batch()
    batch = {"img": image.pin_memory(), "label": label}
    steps.forward_backward(batch)  # the first step may set up libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            steps.forward_backward(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""A run that is cut and started again ends like the run that was not cut."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.engine.resume import config_differences
from dassl.utils.stopping import stop_request
from tests.conftest import ROOT
from tests.test_dassl_toy import OldStyle, same, toy_trainer, weights

PLACES = [
    "epoch 0 batch 1",
    "epoch 0 after after_epoch",
    "epoch 1 saving",
    "epoch 1 before after_epoch",
    "epoch 2 batch 1",
    "epoch 3 after after_epoch",
    "after after_train",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of data and of two runs that were not cut: ``last`` and ``best``."""
    folder = tmp_path_factory.mktemp("whole")
    toy_trainer(folder, folder / "last").train()
    toy_trainer(folder, folder / "best", "TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1).train()
    return folder


def train_in_subprocess(data: Path, output: Path, place: str, *opts: Any) -> int:
    command = [sys.executable, "-m", "tests.test_dassl_toy", data, output, place, *opts]
    return subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL).returncode


@pytest.mark.parametrize(
    ("place", "workers", "seconds"), [("epoch 2 batch 1", 2, 0.0), ("epoch 0 after after_epoch", 0, 60.0)]
)
def test_killed_in_its_process_a_run_still_ends_the_same(
    whole: Path, tmp_path: Path, place: str, workers: int, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    opts = ["DATALOADER.NUM_WORKERS", workers, "TRAIN.RESUME_SECONDS", seconds]
    assert train_in_subprocess(whole, tmp_path, place, *opts) == -9
    log = (tmp_path / "log.txt").read_text()
    assert log.endswith("\n")
    assert f"epoch [{3 if 'batch' in place else 1}/4]" in log.splitlines()[-1]  # nothing lost
    caplog.set_level("INFO")
    toy_trainer(whole, tmp_path, *opts).train()
    assert ("will resume training" in caplog.text) == (seconds == 0)
    assert same(weights(tmp_path), weights(whole / "last"))
    assert not list(tmp_path.glob("resume*"))


class Cut(Exception):
    pass


def cut_at(place: str) -> Any:
    """A trainer that raises at ``place``, as ``Killed`` of the toy module kills its process there."""
    from tests import test_dassl_toy

    def reached(self: Any, here: str) -> None:
        if here == place:
            raise Cut

    return type("OldStyle", (test_dassl_toy.Killed,), {"reached": reached, "kill_at": place})


def logged(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what the clock says."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("time", "data")} for row in rows]


def minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each look at the clock of the training loop take 40 seconds: every second epoch is kept."""
    ticks = itertools.count()
    clock = type("time", (), {"time": time.time, "monotonic": lambda: 40.0 * next(ticks)})
    monkeypatch.setattr("dassl.engine.base.time", clock)


@pytest.mark.parametrize("kind", ["last", "best"])
@pytest.mark.parametrize(
    ("kept", "place"),
    [
        *(("every epoch", place) for place in PLACES),
        *(("every second epoch", place) for place in ("epoch 2 batch 1", "epoch 3 before after_epoch")),
        *(("every second epoch", place) for place in ("epoch 2 after after_epoch", "after after_train")),
        *(("nothing yet", place) for place in ("epoch 2 batch 1", "epoch 3 before after_epoch")),
    ],
)
def test_cut_anywhere_a_run_still_ends_the_same(
    whole: Path, tmp_path: Path, kind: str, kept: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opts = [] if kind == "last" else ["TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1]
    opts += ["TRAIN.RESUME_SECONDS", 0.0 if kept == "every epoch" else 60.0]
    if kept == "every second epoch":
        minutes(monkeypatch)
    from dassl.engine import TRAINER_REGISTRY

    with monkeypatch.context() as patch:
        patch.setitem(TRAINER_REGISTRY._obj_map, "OldStyle", cut_at(place))
        with pytest.raises(Cut):
            toy_trainer(whole, tmp_path, *opts).train()
    if kept == "every second epoch":
        assert torch.load(tmp_path / "resume.pth.tar", weights_only=True)["epoch"] == 2
    assert (tmp_path / "resume.pth.tar").exists() != (kept == "nothing yet" or place == PLACES[0])
    torch.rand(7)
    toy_trainer(whole, tmp_path, *opts).train()
    assert_ends_like(whole / kind, tmp_path)


def assert_ends_like(whole: Path, folder: Path) -> None:
    """The files of two finished runs hold the same, and the curves the same points."""

    def files(folder: Path) -> set[str]:
        return {
            str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "events" not in p.name
        }

    assert files(folder) == files(whole)
    assert logged(folder) == logged(whole)
    assert curve(folder) == curve(whole)
    for name in files(folder) - {"toy_head/checkpoint", "metrics.jsonl"}:
        one, other = (torch.load(place / name, weights_only=True) for place in (folder, whole))
        assert same(one["state_dict"], other["state_dict"]), name
        assert one["val_result"] == other["val_result"]
        assert one["epoch"] == other["epoch"]
        assert one["scheduler"] == other["scheduler"]
        assert set(one) == set(other)


def curve(folder: Path) -> list[tuple[int, float]]:
    """The losses that TensorBoard shows; nothing where it is not installed."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return []
    # TensorBoard reads the files by name, which ends in the number of the writer: 10 would precede 9.
    written = sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:]))
    with tempfile.TemporaryDirectory() as ordered:
        for number, path in enumerate(written):
            (Path(ordered) / f"events.out.tfevents.{number:02d}").symlink_to(path)
        events = EventAccumulator(ordered).Reload()
    return [(point.step, point.value) for point in events.Scalars("train/loss")]


class Signalled(OldStyle):
    """Sends signals to its own process, and to its loader workers before, at ``place``."""

    place = ""
    signals: tuple[int, ...] = ()

    def reached(self, place: str) -> None:
        if place == self.place:
            for number in self.signals:
                for child in multiprocessing.active_children():  # from elsewhere: a worker obeys its parent
                    subprocess.run(["kill", f"-{number}", str(child.pid)], check=True)
                os.kill(os.getpid(), number)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.reached(f"epoch {self.epoch} batch {self.batch_idx}")
        return super().forward_backward(batch)

    def after_epoch(self) -> None:
        super().after_epoch()
        self.reached(f"epoch {self.epoch} in after_epoch")


def signalled(monkeypatch: pytest.MonkeyPatch, place: str, *signals: int) -> None:
    """Trainers built from now on get the signals at ``place``."""
    from dassl.engine import TRAINER_REGISTRY

    kind = type("OldStyle", (Signalled,), {"place": place, "signals": signals})
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "OldStyle", kind)


@pytest.mark.parametrize("kind", ["last", "best"])
@pytest.mark.parametrize(
    ("place", "number", "workers", "epoch"),
    [
        ("epoch 1 batch 0", signal.SIGTERM, 2, 2),
        ("epoch 1 batch 2", signal.SIGHUP, 0, 2),
        ("epoch 1 in after_epoch", signal.SIGTERM, 0, 2),
        ("epoch 3 batch 1", signal.SIGTERM, 0, 4),
    ],
)
def test_a_signal_ends_the_epoch_and_the_run_goes_on_from_it(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: str,
    number: int,
    workers: int,
    epoch: int,
) -> None:
    opts = [] if kind == "last" else ["TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1]
    opts += ["TRAIN.RESUME_SECONDS", 60.0, "DATALOADER.NUM_WORKERS", workers]
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signalled(patch, place, number)
        trainer = toy_trainer(whole, tmp_path, *opts)
        with pytest.raises(KeyboardInterrupt, match=f"^SIG[A-Z]+: stopped after epoch {epoch} of 4 in "):
            trainer.train()
    assert signal.getsignal(number) == before
    assert len(logged(tmp_path)) == 3 * epoch  # nothing of another epoch was trained
    assert (tmp_path / "resume.pth.tar").exists() == (epoch < 4)
    torch.rand(7)
    again = toy_trainer(whole, tmp_path, *opts)
    ended, after_epoch = [], again.after_epoch
    again.after_epoch = lambda: (ended.append(again.epoch), after_epoch())
    again.train()
    assert again.start_epoch == epoch
    done = epoch - (
        place in ("epoch 1 batch 0", "epoch 1 batch 2")
    )  # the file was written before after_epoch
    assert ended == list(range(done, 4))
    assert_ends_like(whole / kind, tmp_path)


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signalled(monkeypatch, "epoch 1 batch 0", signal.SIGTERM, signal.SIGHUP)
    trainer = toy_trainer(tmp_path, tmp_path, "TRAIN.RESUME_SECONDS", 60.0)
    with pytest.raises(KeyboardInterrupt, match="^SIGHUP: stopped at once$"):
        trainer.train()
    assert (trainer.epoch, trainer.batch_idx) == (1, 0)
    assert not (tmp_path / "resume.pth.tar").exists()


def test_who_handled_signals_before_hears_of_those_that_end_a_run() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with stop_request():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not heard
        assert heard == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt), stop_request():
            [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)]
        assert len(heard) > 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_ignored_signal_and_another_thread_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, "epoch 1 batch 0", signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a program
    try:
        toy_trainer(tmp_path, tmp_path / "nohup").train()
        thread = threading.Thread(target=toy_trainer(tmp_path, tmp_path / "thread").train)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert same(weights(tmp_path / "nohup"), weights(tmp_path / "thread"))


def test_without_a_resume_file_a_signal_says_that_only_checkpoints_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, "epoch 1 batch 0", signal.SIGTERM)
    trainer = toy_trainer(tmp_path, tmp_path, "TRAIN.RESUME", False, "TRAIN.CHECKPOINT_FREQ", 1)
    with pytest.raises(KeyboardInterrupt, match="TRAIN.RESUME is False: only checkpoints are kept"):
        trainer.train()
    assert (tmp_path / "toy_head" / "model.pth.tar-2").exists()
    assert not (tmp_path / "resume.pth.tar").exists()


def test_a_checkpoint_that_outruns_the_resume_file_continues_a_run_only_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opts = ["TRAIN.RESUME_SECONDS", 60.0, "TRAIN.CHECKPOINT_FREQ", 1]
    cut_in_epoch_3(tmp_path, tmp_path / "out", monkeypatch, *opts)
    named = toy_trainer(tmp_path, tmp_path / "other", "RESUME", str(tmp_path / "out"), *opts)
    named.before_train()
    assert named.start_epoch == 2
    caplog.set_level("INFO")
    anew = toy_trainer(tmp_path, tmp_path / "out", *opts)
    anew.before_train()
    assert anew.start_epoch == 0
    assert "model.pth.tar-2 was left before the first resume file, train from scratch" in caplog.text


def test_seconds_between_resume_files_are_not_negative(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^TRAIN.RESUME_SECONDS is -1.0; set it to 0 or more$"):
        toy_trainer(tmp_path, tmp_path, "TRAIN.RESUME_SECONDS", -1.0)


def test_resume_file_holds_what_a_run_is_and_loads_without_code(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, tmp_path)
    trainer.extra_state = lambda: {"seen": 3}
    trainer.epoch = 1
    trainer.save_resume()
    state = torch.load(tmp_path / "resume.pth.tar", weights_only=True)
    assert state["epoch"] == 2
    assert state["extra"] == {"seen": 3}
    assert state["data_seed"] == 1
    assert "LR_SCHEDULER: cosine" in state["cfg"]
    assert set(state["models"]["toy_head"]) == {"model", "optimizer", "scheduler"}
    assert set(state["rng"]) == {"python", "numpy", "torch", "cuda"}


def cut_in_epoch_3(data: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *opts: Any) -> None:
    trainer = toy_trainer(data, output, *opts)
    step = trainer.forward_backward

    def cut(batch: Any) -> Any:
        if trainer.epoch == 2:
            raise Cut
        return step(batch)

    trainer.forward_backward = cut
    with pytest.raises(Cut):
        trainer.train()


def test_a_resumed_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut_in_epoch_3(tmp_path, tmp_path / "out", monkeypatch)
    caplog.set_level("INFO")
    caplog.clear()
    trainer = toy_trainer(tmp_path, tmp_path / "out")
    trainer.train()
    text = "\n".join(caplog.messages)
    assert (
        f"""Found checkpoint at {tmp_path}/out (will resume training)
Loading checkpoint from "{tmp_path}/out/resume.pth.tar"
Loaded model weights
Loaded optimizer
Loaded scheduler
Previous epoch: 2
"""
        in text
    )
    assert "epoch [2/4]" not in text
    assert "epoch [3/4] batch [1/3]" in text


def test_another_configuration_is_refused_unless_it_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_in_epoch_3(tmp_path, tmp_path / "out", monkeypatch)
    with pytest.raises(ValueError, match=r"resume.pth.tar.*OPTIM.LR was 0.01, is 0.5.*to start anew delete"):
        toy_trainer(tmp_path, tmp_path / "out", "OPTIM.LR", 0.5).train()
    other = tmp_path / "other"
    trainer = toy_trainer(
        tmp_path, other, "RESUME", str(tmp_path / "out"), "TRAIN.PRINT_FREQ", 3, "VERBOSE", False
    )
    trainer.train()
    assert trainer.start_epoch == 2
    assert (other / "toy_head" / "model.pth.tar-4").is_file()


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [("OPTIM.LR", 0.5, "OPTIM.LR was 0.01, is 0.5"), ("OPTIM.MAX_EPOCH", 3, "OPTIM.MAX_EPOCH was 1, is 3")],
)
def test_a_trained_model_is_not_continued_with_another_configuration(
    tmp_path: Path, key: str, value: Any, difference: str
) -> None:
    opts = ["OPTIM.MAX_EPOCH", 1]
    toy_trainer(tmp_path, tmp_path, *opts).train()  # one epoch: there never was a resume file
    other = toy_trainer(tmp_path, tmp_path, *opts, key, value)
    before = other.model.head.weight.clone()
    with pytest.raises(ValueError, match=rf'^".*tar-1" is of a run .*{difference}.*toy_head" or choose .*$'):
        other.train()
    assert torch.equal(other.model.head.weight, before)
    toy_trainer(tmp_path, tmp_path, *opts, "TRAIN.PRINT_FREQ", 1).train()

    path = tmp_path / "toy_head" / "model.pth.tar-1"
    published = torch.load(path, weights_only=True)
    del published["cfg"]
    torch.save(published, path)
    toy_trainer(tmp_path, tmp_path, *opts, key, value).train()


def test_cut_after_the_last_checkpoint_a_run_is_not_continued_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dassl.engine import TRAINER_REGISTRY

    for keeps in (True, False):
        output = tmp_path / str(keeps)
        opts = ["TRAIN.RESUME", keeps]
        with monkeypatch.context() as patch:
            patch.setitem(TRAINER_REGISTRY._obj_map, "OldStyle", cut_at("epoch 3 after after_epoch"))
            with pytest.raises(Cut):
                toy_trainer(tmp_path, output, *opts).train()
        assert (output / "resume.pth.tar").exists() == keeps
        for key, value in (("OPTIM.LR", 0.5), ("OPTIM.MAX_EPOCH", 6), ("OPTIM.MAX_EPOCH", 3)):
            with pytest.raises(ValueError, match=f"another configuration .*{key} was"):
                toy_trainer(tmp_path, output, *opts, key, value).train()


def test_a_cut_off_resume_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, tmp_path)
    trainer.save_resume()
    path = tmp_path / "resume.pth.tar"
    whole = path.read_bytes()
    for content in (whole[:1000], b"", [1, 2], {"epoch": 1}):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(
            ValueError, match=r'^".*resume.pth.tar" .* is cut off .*: delete it to start anew$'
        ):
            toy_trainer(tmp_path, tmp_path).train()


@pytest.mark.parametrize("text", ["::: [", "a word", 5])
def test_a_resume_file_without_a_configuration_is_one_line(tmp_path: Path, text: Any) -> None:
    trainer = toy_trainer(tmp_path, tmp_path)
    trainer.save_resume()
    path = tmp_path / "resume.pth.tar"
    torch.save(torch.load(path, weights_only=True) | {"cfg": text}, path)
    with pytest.raises(ValueError, match=r'the configuration in ".*resume.pth.tar" cannot be read: delete'):
        toy_trainer(tmp_path, tmp_path).train()


def test_configurations_differ_by_what_decides_the_result() -> None:
    def config(name: str = "CoOp", **nodes: dict[str, Any]) -> CfgNode:
        cfg = get_cfg_default()
        cfg.TRAINER.NAME = name
        cfg.TRAINER.update({node: CfgNode(content) for node, content in nodes.items()})
        return cfg

    def differences(old: CfgNode, new: CfgNode) -> list[str]:
        return [text.split(" was ")[0] for text in config_differences(old.dump(), new)]

    old = config(COOP={"N_CTX": 16}, HeBA={"SCALE": 1.0}, COOP2={"N_CTX": 16})
    assert differences(old, config(COOP={"N_CTX": 4}, HeBA={"SCALE": 2.0}, COOP2={"N_CTX": 4})) == [
        "TRAINER.COOP.N_CTX"
    ]
    assert differences(old, config(COOP={"N_CTX": 16, "NEW": 1}, MORE={"A": 1})) == []
    assert differences(config(COOP={"N_CTX": 16, "NEW": 1}, MORE={"A": 1}), old) == []
    assert differences(old, config("HeBA", COOP={"N_CTX": 4}, HeBA={"SCALE": 1.0})) == ["TRAINER.NAME"]
    shared, other = config("Mine", COOP={"N_CTX": 16}), config("Mine", COOP={"N_CTX": 4}, HeBA={"SCALE": 1.0})
    assert differences(shared, other) == ["TRAINER.COOP.N_CTX"]
    free = config(COOP={"N_CTX": 16})
    free.TRAIN.RESUME, free.TRAIN.CHECKPOINT_FREQ, free.OUTPUT_DIR = False, 5, "elsewhere"
    assert differences(old, free) == []


def test_with_the_last_checkpoint_there_a_run_only_evaluates(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy_trainer(whole, tmp_path).train()
    trained = weights(tmp_path)
    caplog.set_level("INFO")
    caplog.clear()
    trainer = toy_trainer(whole, tmp_path)
    trainer.train()
    assert "Previous epoch: 4" in caplog.messages
    assert not [message for message in caplog.messages if message.startswith(("epoch [", "Checkpoint saved"))]
    assert trainer.evaluator.total == 9
    assert same(trainer.model.head.state_dict(), trained)


def test_dassls_own_checkpoints_continue_with_the_right_rates(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opts = ["TRAIN.RESUME", False, "TRAIN.CHECKPOINT_FREQ", 1]
    rates: list[float] = []
    cut_in_epoch_3(whole, tmp_path, monkeypatch, *opts)
    assert not (tmp_path / "resume.pth.tar").exists()
    trainer = toy_trainer(whole, tmp_path, *opts)
    before_epoch = trainer.before_epoch
    trainer.before_epoch = lambda: (rates.append(trainer.get_current_lr()), before_epoch())
    trainer.train()
    whole_run = torch.load(whole / "last" / "toy_head" / "model.pth.tar-4", weights_only=True)
    cosine = [0.01 / 2 * (1 + torch.cos(torch.tensor(torch.pi * e / 4, dtype=torch.float64))) for e in (1, 2)]
    assert rates == pytest.approx([float(rate) for rate in cosine], rel=1e-12)
    assert trainer.sched.state_dict() == whole_run["scheduler"]


class WithScaler(OldStyle):
    """Counts in a scaler and in an attribute of its own."""

    def build_model(self) -> None:
        super().build_model()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        self.steps = 0

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.steps += 1
        self.optim.zero_grad()
        image, label = self.parse_batch_train(batch)
        self.scaler.scale(torch.nn.functional.cross_entropy(self.model(image), label)).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"scale": self.scaler.get_scale()}

    def extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def test_scaler_and_extra_state_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dassl.engine import TRAINER_REGISTRY

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "OldStyle", WithScaler)
    whole = toy_trainer(tmp_path, tmp_path / "whole")
    whole.train()
    cut_in_epoch_3(tmp_path, tmp_path / "cut", monkeypatch)
    cut = toy_trainer(tmp_path, tmp_path / "cut")
    cut.train()
    assert cut.steps == whole.steps == 12
    assert cut.scaler.state_dict() == whole.scaler.state_dict()
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_an_unseeded_run_keeps_its_order_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_in_epoch_3(tmp_path, tmp_path / "out", monkeypatch, "SEED", -1)
    seed = torch.load(tmp_path / "out" / "resume.pth.tar", weights_only=True)["data_seed"]
    trainer = toy_trainer(tmp_path, tmp_path / "out", "SEED", -1)
    trainer.train()
    assert trainer.dm.data_seed == seed

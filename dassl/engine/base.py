"""The loop over epochs, the registered models, and what is kept of them on disk."""

import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.engine import resume
from dassl.utils import (
    get_rng_state,
    load_checkpoint,
    load_state_dict_strictly,
    resume_from_checkpoint,
    save_checkpoint,
    set_rng_state,
    tolist_if_not,
)
from dassl.utils.checkpoint import last_checkpoint
from dassl.utils.stopping import StopRequest, stop_request

logger = logging.getLogger(__name__)


class TrainerBase:
    """Base of all trainers; subclasses set ``cfg`` and ``output_dir`` and register their models."""

    cfg: CfgNode
    output_dir: str

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, LRScheduler | None] = OrderedDict()
        self._writer: Any = None
        self._bad_loss: Tensor | None = None
        self._after_epoch_due = False
        self.start_epoch = self.epoch = self.max_epoch = 0
        self.time_start = time.time()

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Optimizer | None = None,
        sched: LRScheduler | None = None,
    ) -> None:
        """Puts a model under the trainer's care: its mode, its steps and its checkpoints."""
        if "_models" not in self.__dict__:
            raise AttributeError(f'call super().__init__() before registering the model "{name}"')
        if name in self._models:
            raise KeyError(f'a model named "{name}" is already registered; give this one another name')
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Names of all registered models, or ``names`` as a checked list."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise KeyError(f'no model named "{name}" is registered, only {list(self._models)}')
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Sets models to ``train``, or to ``eval`` (also called ``test``)."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(f'model mode is "{mode}"; use train, test or eval')
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Learning rate of the first parameter group of the first model."""
        return self._optims[self.get_model_names(names)[0]].param_groups[0]["lr"]

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Moves the learning rates on by one epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def detect_anomaly(self, loss: Tensor) -> None:
        """Raises FloatingPointError if ``loss`` is not finite.

        On a GPU the step does not wait for the answer: it comes with the next log line or the epoch's end.
        """
        bad = ~loss.detach().isfinite().all()
        self._bad_loss = bad if self._bad_loss is None else self._bad_loss | bad
        if bad.device.type == "cpu":
            self.check_anomaly()

    def check_anomaly(self) -> None:
        """Raises FloatingPointError if a loss since the last check was not finite."""
        bad, self._bad_loss = self._bad_loss, None
        if bad is not None and bad:
            raise FloatingPointError("Loss is infinite or NaN!")

    def check_weights(self) -> None:
        """Raises FloatingPointError if a trained weight is not finite; waits for the device once."""
        for name in self.get_model_names():
            weights = {k: w for k, w in self._models[name].named_parameters() if w.requires_grad}
            if weights and not torch.stack([w.detach().isfinite().all() for w in weights.values()]).all():
                bad = [key for key, weight in weights.items() if not weight.isfinite().all()]
                raise FloatingPointError(
                    f"{len(bad)} of {len(weights)} trained weights of {name} are infinite or NaN (the first "
                    f"is {bad[0]}); epoch {self.epoch + 1} is not saved. Lower OPTIM.LR, or compute in PREC "
                    "bf16 or fp32"
                )

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """One optimisation step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Trains from ``start_epoch``, or from where a cut run stopped, to ``max_epoch``, then evaluates.

        Raises:
            KeyboardInterrupt: SIGTERM or SIGHUP came while an epoch was going on. The first ends the run
                after that epoch, when the resume file is written; the second at once.
        """
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()
        self.epoch = max(self.start_epoch - 1, 0)
        if self._after_epoch_due:  # the resume file was written before it
            self._finish_epoch()
        with stop_request() as stop:
            self._run_epochs(stop)
        if stop.reason:
            self.close_writer()
            raise KeyboardInterrupt(self._stopped(stop))
        self.after_train()
        resume.remove(self.output_dir)

    def _run_epochs(self, stop: StopRequest) -> None:
        """The epochs, each followed by what has to be kept of it, until the last or until ``stop``."""
        set_data_epoch = getattr(getattr(self, "dm", None), "set_epoch", None)
        written = time.monotonic()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            if set_data_epoch is not None:
                set_data_epoch(epoch)
            self.before_epoch()
            self.run_epoch()
            self.check_anomaly()
            self.check_weights()
            self._after_epoch_due = True
            resumable = self.cfg.TRAIN.RESUME and epoch + 1 < self.max_epoch
            due = time.monotonic() - written >= self.cfg.TRAIN.RESUME_SECONDS
            if resumable and (due or stop.reason):
                self.save_resume()
                written = time.monotonic()
            if resumable and stop.reason:
                return
            self._finish_epoch()
            if stop.reason:  # it came during after_epoch, or nothing but checkpoints is kept of this epoch
                if resumable:
                    self.save_resume()
                return

    def _finish_epoch(self) -> None:
        self.after_epoch()
        self._after_epoch_due = False

    def _stopped(self, stop: StopRequest) -> str:
        """What a run that a signal ended after an epoch says."""
        kept = "" if self.cfg.TRAIN.RESUME else " (TRAIN.RESUME is False: only checkpoints are kept)"
        epochs = f"epoch {self.epoch + 1} of {self.max_epoch}"
        return f'{stop.reason}: stopped after {epochs} in "{self.output_dir}"{kept}'

    def before_train(self) -> None: ...

    def after_train(self) -> None: ...

    def before_epoch(self) -> None: ...

    def after_epoch(self) -> None: ...

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self, split: str | None = None) -> float:
        raise NotImplementedError

    def forward_backward(self, batch: Any) -> dict[str, float | Tensor]:
        """One training step; returns what the log line shows, numbers or tensors of one element."""
        raise NotImplementedError

    def model_inference(self, input: Any) -> Tensor:
        raise NotImplementedError

    def extra_state(self) -> dict[str, Any]:
        """What else a resumed run needs, as plain data and tensors: a trainer's own counters, for example."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what ``extra_state`` returned."""

    def save_resume(self) -> None:
        """Replaces ``<output_dir>/resume.pth.tar`` by the state after the present epoch's last step."""
        scaler = getattr(self, "scaler", None)
        state = {
            "epoch": self.epoch + 1,
            "models": {
                name: {kind: None if part is None else part.state_dict() for kind, part in parts.items()}
                for name, parts in self._parts().items()
            },
            "best_result": self.best_result,
            "scaler": None if scaler is None else scaler.state_dict(),
            "extra": self.extra_state(),
            "rng": get_rng_state(),
            "data_seed": getattr(getattr(self, "dm", None), "data_seed", None),
            "elapsed": time.time() - self.time_start,
            "after_epoch": not self._after_epoch_due,
            "cfg": self.cfg.dump(),
        }
        resume.write(self.output_dir, state)

    def load_resume(self, state: dict[str, Any]) -> int:
        """Brings the trainer and the process's random generators back to what ``save_resume`` wrote.

        Returns:
            The number of epochs it was trained for.
        """
        for name, parts in self._parts().items():
            saved = state["models"][name]
            load_state_dict_strictly(parts["model"], saved["model"], resume.FILE_NAME)
            logger.info("Loaded model weights")
            for kind in ("optimizer", "scheduler"):
                if parts[kind] is not None:
                    parts[kind].load_state_dict(saved[kind])
                    logger.info("Loaded %s", kind)
        self.best_result = state["best_result"]
        if state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        if state["data_seed"] is not None:
            self.dm.data_seed = state["data_seed"]
        self.load_extra_state(state["extra"])
        self.time_start = time.time() - state["elapsed"]
        set_rng_state(state["rng"])
        logger.info("Previous epoch: %d", state["epoch"])
        self._after_epoch_due = not state.get("after_epoch", False)
        return state["epoch"]

    def _parts(self) -> dict[str, dict[str, Any]]:
        """Model, optimiser and schedule by name of the model; None where a model has none."""
        models, optims, scheds = self._models, self._optims, self._scheds
        return {n: {"model": models[n], "optimizer": optims[n], "scheduler": scheds[n]} for n in models}

    def resume_model_if_exist(self, directory: str) -> int:
        """Restores the newest state below ``directory``; returns the number of epochs it was trained for.

        That is the final checkpoint if training is through, else the resume file, else the last checkpoint. A
        run that keeps a resume file and was cut before it wrote one starts anew, though: a checkpoint alone
        would not bring it to the end that it would have had. It continues where ``RESUME`` names the folder.

        Raises:
            ValueError: the file is of a run with another configuration, or damaged.
        """
        names = self.get_model_names()
        last = [last_checkpoint(os.path.join(directory, name)) for name in names]
        final = f"model.pth.tar-{self.max_epoch}"
        trained = bool(names) and all(path and os.path.basename(path) == final for path in last)
        if resume.exists(directory):
            state = resume.read(directory, self.cfg)
            if not trained:
                return self.load_resume(state)
        if not names or None in last:
            logger.info("No checkpoint found, train from scratch")
            return 0
        keeps = self.cfg.TRAIN.RESUME and not self.cfg.RESUME
        if keeps and not trained and resume.belongs_to(last[0], self.cfg):
            logger.info("%s was left before the first resume file, train from scratch", last[0])
            return 0
        logger.info("Found checkpoint at %s (will resume training)", directory)

        def check(path: str, checkpoint: dict[str, Any]) -> None:
            resume.check_config(self.cfg, path, checkpoint)
            self.load_extra_state(checkpoint.get("extra", {}))

        epochs = [
            resume_from_checkpoint(
                os.path.join(directory, name),
                self._models[name],
                self._optims[name],
                self._scheds[name],
                check=check,
            )
            for name in names
        ]
        return epochs[-1]

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Writes ``<directory>/<name>/model.pth.tar-<epoch + 1>`` for each registered model."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            save_checkpoint(
                {
                    "state_dict": self._models[name].state_dict(),
                    "epoch": epoch + 1,
                    "optimizer": None if optim is None else optim.state_dict(),
                    "scheduler": None if sched is None else sched.state_dict(),
                    "val_result": val_result,
                    "cfg": self.cfg.dump(),
                    "extra": self.extra_state(),
                },
                os.path.join(directory, name),
                is_best=is_best,
                model_name=model_name,
            )

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Loads the checkpoints of ``epoch``, or the best on the validation set, from ``<directory>/<name>``.

        Raises:
            FileNotFoundError: there is no such checkpoint; the message says which there are.
            ValueError: names or shapes of its tensors are not the model's.
        """
        if not directory:
            logger.info("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            folder = os.path.join(directory, name)
            path = os.path.join(folder, "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
            if not os.path.isfile(path):
                raise FileNotFoundError(f"No model at {path} ({_epochs_there(folder)})")
            checkpoint = load_checkpoint(path)
            load_state_dict_strictly(self._models[name], checkpoint["state_dict"], path)
            result = checkpoint.get("val_result")
            logger.info(
                "Load %s to %s (epoch=%s, val_result=%s)",
                path,
                name,
                checkpoint.get("epoch"),
                None if result is None else f"{result:.1f}",
            )

    def init_writer(self, log_dir: str, purge_step: int | None = None) -> None:
        """Starts writing for TensorBoard into ``log_dir``, if TensorBoard is installed.

        Args:
            log_dir: made if it is missing.
            purge_step: TensorBoard leaves out what was written before of this step and later ones.
        """
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("TensorBoard is not installed (pip install tensorboard): no curves are written")
            return
        logger.info("Initialize tensorboard (log_dir=%s)", log_dir)
        if not isinstance(threading.excepthook, _ThreadHook):
            threading.excepthook = _ThreadHook(threading.excepthook)
        with self._writing_curves(log_dir):
            self._writer = SummaryWriter(log_dir=log_dir, purge_step=purge_step)

    def close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._writing_curves(writer.log_dir):
                writer.close()

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Adds a point to a TensorBoard curve; does nothing without a writer."""
        if self._writer is not None:
            with self._writing_curves(self._writer.log_dir):
                self._writer.add_scalar(tag, scalar_value, global_step)

    @contextmanager
    def _writing_curves(self, log_dir: str) -> Iterator[None]:
        """Where TensorBoard fails to write, warns once; training goes on without its curves."""
        try:
            yield
        except Exception as error:  # beside TensorFlow it raises TensorFlow's errors
            self._writer = None
            logger.warning('"%s" gets no more curves: disk full? (%s)', log_dir, error)


class _ThreadHook:
    """A ``threading.excepthook`` without TensorBoard's thread, whose error the next ``add_scalar`` raises."""

    def __init__(self, others: Callable[[Any], Any]) -> None:
        self.others = others

    def __call__(self, args: Any) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            self.others(args)


def _epochs_there(folder: str) -> str:
    """What ``folder`` offers instead, for an error message."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    epochs = sorted(int(m[1]) for name in names if (m := re.fullmatch(r"model\.pth\.tar-(\d+)", name)))
    best = ["the best model"] if "model-best.pth.tar" in names else []
    there = [f"epoch {epoch}" for epoch in epochs] + best
    return f"there: {', '.join(there)}; choose with --load-epoch" if there else f"no checkpoint in {folder}"

"""Checkpoints: written atomically, read without running code from the file, loaded strictly."""

import logging
import os
import pickle
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dassl.utils.tools import atomic_write

logger = logging.getLogger(__name__)


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Writes ``<save_dir>/model.pth.tar-<epoch>`` and its name into ``<save_dir>/checkpoint``.

    Args:
        state: Dassl's dictionary: ``state_dict``, ``epoch``, ``optimizer``, ``scheduler``, ``val_result``;
            with ``cfg``, the configuration's text, training continues only with the same.
        save_dir: made if it is missing.
        is_best: also write ``model-best.pth.tar``.
        remove_module_from_keys: strip ``module.`` from the tensors' names.
        model_name: file name instead of ``model.pth.tar-<epoch>``.
    """
    os.makedirs(save_dir, exist_ok=True)
    if remove_module_from_keys:
        state = {**state, "state_dict": _strip_module(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = os.path.join(save_dir, name)
    for target in [path, os.path.join(save_dir, "model-best.pth.tar")] if is_best else [path]:
        with atomic_write(target) as file:
            torch.save(state, file)
    logger.info("Checkpoint saved to %s", path)
    with atomic_write(os.path.join(save_dir, "checkpoint")) as file:
        file.write(f"{name}\n".encode())


def _strip_module(state_dict: Mapping[str, Tensor]) -> "OrderedDict[str, Tensor]":
    return OrderedDict((name.removeprefix("module."), tensor) for name, tensor in state_dict.items())


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """Reads a trainer's checkpoint onto the CPU without running code from the file.

    Dassl's checkpoints of runs with warm-up hold a whole scheduler object: it is left out with a warning.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a whole checkpoint: ``state_dict``, dense tensors by name, and ``epoch``.
    """
    checkpoint = read_dictionary(fpath)
    if not {"state_dict", "epoch"} <= checkpoint.keys():
        keys = [str(key) for key in checkpoint]
        shown = ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
        raise ValueError(
            f'"{fpath}" is not a trainer\'s checkpoint, which has state_dict and epoch: it holds '
            f"{shown or 'nothing'}; name a file that training has written"
        )
    weights, epoch = checkpoint["state_dict"], checkpoint["epoch"]
    if not isinstance(weights, Mapping) or type(epoch) is not int:
        raise ValueError(
            f'"{fpath}" has state_dict of type {type(weights).__name__} and epoch of type '
            f"{type(epoch).__name__}, not tensors by name and a number; name a file that training has written"
        )
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.layout != torch.strided:
            what = "without content or sparse" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f'"{name}" in "{fpath}" is no dense tensor ({what}); nothing of it is loaded')
    return checkpoint


def read_dictionary(fpath: str) -> dict[str, Any]:
    """Reads any dictionary that torch saved, as ``load_checkpoint`` does; keys with objects are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut off or holds something else.
    """
    if fpath is None:
        raise ValueError("File path is None; give the path of a checkpoint")
    if not os.path.isfile(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    try:
        checkpoint = torch.load(fpath, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise ValueError(f"it holds a {type(checkpoint).__name__}, not a dictionary")
        return checkpoint
    except pickle.UnpicklingError as error:
        checkpoint = _load_without_objects(fpath, error)
    except Exception as error:
        raise _damaged(fpath, error) from error
    left_out = [key for key, value in checkpoint.items() if _holds_object(value)]
    if "state_dict" in left_out:
        raise ValueError(
            f'the state_dict of "{fpath}" holds Python objects besides tensors; it is not loaded'
        )
    for key in left_out:
        logger.warning('"%s" holds pickled Python objects under "%s"; they are left out', fpath, key)
        del checkpoint[key]
    return checkpoint


class _Object:
    """Stands for a pickled object of any class; takes whatever the pickle does to it and keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


class _InertUnpickler(pickle.Unpickler):
    """Rebuilds tensors and plain containers; any other class or function becomes an ``_Object``."""

    ALLOWED = {
        ("collections", "OrderedDict"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
    }

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in self.ALLOWED else _Object


def _load_without_objects(fpath: str, error: Exception) -> dict[str, Any]:
    """Second try for files that ``weights_only`` refuses (``error``): objects become placeholders."""
    module = types.ModuleType("inert_pickle")
    module.Unpickler = _InertUnpickler
    try:
        checkpoint = torch.load(fpath, map_location="cpu", weights_only=False, pickle_module=module)
    except Exception:
        raise _damaged(fpath, error) from error
    if not isinstance(checkpoint, dict):
        raise _damaged(fpath, error) from error
    return checkpoint


def _damaged(fpath: str, error: Exception) -> ValueError:
    """Says in own words what torch tells: its advice would be to run what is in the file."""
    with open(fpath, "rb") as file:
        start = file.read(8)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if not start.startswith((b"PK", b"\x80\x02")):  # of a zip archive, and of torch's older format
        reason = f"it starts with {start}" if start else "it is empty"
    elif "TorchScript" in reason:
        reason = "it holds a TorchScript program"
    elif isinstance(error, pickle.UnpicklingError):
        reason = "it holds Python objects, which are not loaded"
    return ValueError(
        f'"{fpath}" ({os.path.getsize(fpath):,} bytes) is cut off or not a checkpoint: {reason}; '
        "delete it, then fetch or make it again"
    )


def _holds_object(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_object(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple)):
        return any(_holds_object(item) for item in value)
    return isinstance(value, _Object) or value is _Object


def load_state_dict_strictly(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Loads ``state_dict`` only if its names, shapes and kinds are exactly those of ``model.state_dict()``.

    Raises:
        ValueError: tensors are missing, unexpected, of another shape, not of floating point where these are
            needed, or hold NaN; names them and ``source``.
    """
    wanted = model.state_dict()
    problems = {
        "missing": [name for name in wanted if name not in state_dict],
        "unexpected": [name for name in state_dict if name not in wanted],
        "of another shape": [
            f"{name} {tuple(state_dict[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state_dict and state_dict[name].shape != tensor.shape
        ],
        "of another kind": [
            f"{name} {state_dict[name].dtype} instead of {tensor.dtype}"
            for name, tensor in wanted.items()
            if name in state_dict and state_dict[name].is_floating_point() != tensor.is_floating_point()
        ],
        "with NaN": [name for name, tensor in state_dict.items() if tensor.isnan().any()],
    }
    text = "; ".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names)
    if text:
        raise ValueError(
            f'"{source}" does not fit {type(model).__name__}: tensors {text}; '
            "was it made with another configuration or trainer?"
        )
    model.load_state_dict(state_dict)


def last_checkpoint(fdir: str) -> str | None:
    """Path of the checkpoint last saved in ``fdir``, or None."""
    try:
        with open(os.path.join(fdir, "checkpoint"), encoding="utf-8") as file:
            return os.path.join(fdir, file.readline().strip())
    except FileNotFoundError:
        return None


def resume_from_checkpoint(
    fdir: str,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    check: Callable[[str, dict[str, Any]], None] | None = None,
) -> int:
    """Loads the checkpoint last saved in ``fdir``; returns the number of epochs it was trained for.

    Args:
        fdir: folder of one model's checkpoints.
        model: gets the weights.
        optimizer: gets its state, if given.
        scheduler: the same.
        check: is called with the path and the checkpoint before anything is loaded, to refuse it.
    """
    path = last_checkpoint(fdir)
    if path is None:
        raise FileNotFoundError(f'File is not found at "{os.path.join(fdir, "checkpoint")}"')
    logger.info('Loading checkpoint from "%s"', path)
    checkpoint = load_checkpoint(path)
    if check is not None:
        check(path, checkpoint)
    load_state_dict_strictly(model, checkpoint["state_dict"], path)
    logger.info("Loaded model weights")
    for what, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None:
            continue
        if checkpoint.get(what) is None:
            raise ValueError(
                f'training cannot continue from "{path}": it holds no {what} state that can be read; '
                "evaluate it, or train in another output folder"
            )
        target.load_state_dict(checkpoint[what])
        logger.info("Loaded %s", what)
    logger.info("Previous epoch: %d", checkpoint["epoch"])
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Loads those tensors of a file whose name and shape the model has; reports the others."""
    checkpoint = read_dictionary(weight_path)
    found = _strip_module(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    shapes = {name: getattr(tensor, "shape", None) for name, tensor in found.items()}
    matched = {name: t for name, t in found.items() if name in own and own[name].shape == shapes[name]}
    discarded = [name for name in found if name not in matched]
    if not matched:
        warnings.warn(f"Cannot load {weight_path} (check the key names manually)", stacklevel=2)
        return
    model.load_state_dict({**own, **matched})
    logger.info("Successfully loaded pretrained weights from %s", weight_path)
    if discarded:
        logger.info("Layers discarded due to unmatched keys or size: %s", discarded)

"""Checkpoints: written atomically, read without running code from the file, loaded strictly."""

import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fileio import atomic_write
from fileio.tensors import tensor_problems
from fileio.unpickle import HasObjects, Placeholder, read_tensors, read_without_objects

logger = logging.getLogger(__name__)

DEEPEST = 100  # levels of containers in a file; the states of optimisers have about 5


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
        ValueError: the file is cut off or holds something else, or its content contains itself.
    """
    if fpath is None:
        raise ValueError("File path is None; give the path of a checkpoint")
    if not os.path.isfile(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    try:
        try:
            checkpoint = read_tensors(fpath)
        except HasObjects:
            checkpoint = read_without_objects(fpath)
        if not isinstance(checkpoint, dict):
            raise ValueError(f"it holds a {type(checkpoint).__name__}, not a dictionary")
        left_out = [key for key, value in checkpoint.items() if _holds_object(value)]
    except ValueError as error:
        raise _damaged(fpath, str(error)) from error
    if "state_dict" in left_out:
        raise ValueError(
            f'the state_dict of "{fpath}" holds Python objects besides tensors; it is not loaded'
        )
    for key in left_out:
        logger.warning('"%s" holds pickled Python objects under "%s"; they are left out', fpath, key)
        del checkpoint[key]
    return checkpoint


def _damaged(fpath: str, reason: str) -> ValueError:
    return ValueError(
        f'"{fpath}" ({os.path.getsize(fpath):,} bytes) is cut off or not a checkpoint: {reason}; '
        "delete it, then fetch or make it again"
    )


def _holds_object(value: Any) -> bool:
    """Whether there is a ``Placeholder`` in a value; level by level, so that no content is too much for it.

    Raises:
        ValueError: it is nested too deep, or contains itself.
    """
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(item, Placeholder) or item is Placeholder for item in level):
            return True
        parts = [part for item in level for part in _parts(item)]
        level = list({id(part): part for part in parts}.values())
        if not level:
            return False
    raise ValueError(f"it is nested more than {DEEPEST} levels deep, or contains itself")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [item for pair in value.items() for item in pair]
    return list(value) if isinstance(value, (list, tuple)) else []


def load_state_dict_strictly(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Loads ``state_dict`` only if its names, shapes and kinds are exactly those of ``model.state_dict()``.

    Raises:
        ValueError: tensors are missing, unexpected, of another shape, not of floating point where these are
            needed, or hold NaN or infinity; names them and ``source``.
    """
    problems = tensor_problems(state_dict, model.state_dict())
    text = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items())
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

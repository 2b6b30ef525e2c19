"""The rolling resume file: everything a cut run needs to end exactly as if it had not been cut.

It is written after the last step of an epoch, before the epoch's evaluation and checkpoint
(``after_epoch``), which a resumed run therefore does again: when ``TRAIN.RESUME_SECONDS`` have passed since
it was written last, and when a signal has asked the run to stop. After the last epoch the checkpoint takes
its place. A run that was cut repeats the epochs since then (all of them if there is no file yet) and writes
again what these left. Where the signal came during ``after_epoch``, the file is written after it; it says so
under ``after_epoch``, which is not done again.
"""

import logging
import os
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.engine.build import TRAINER_REGISTRY
from dassl.utils import load_checkpoint, read_dictionary
from fileio import atomic_write
from fileio.settings import deciding_settings, flatten
from fileio.yaml_text import parse_yaml

logger = logging.getLogger(__name__)

FILE_NAME = "resume.pth.tar"

# what such a file holds
KEYS = ("epoch", "models", "best_result", "scaler", "extra", "rng", "data_seed", "elapsed", "cfg")


def exists(directory: str) -> bool:
    """Whether there is a resume file in ``directory``."""
    return os.path.isfile(os.path.join(directory, FILE_NAME))


def remove(directory: str) -> None:
    """Deletes the resume file of a run that is through."""
    if exists(directory):
        os.remove(os.path.join(directory, FILE_NAME))


def belongs_to(path: str, cfg: CfgNode) -> bool:
    """Whether the run that wrote a checkpoint keeps a resume file beside it; Dassl's own do not.

    Raises:
        ValueError: it is of a run with another configuration.
    """
    checkpoint = load_checkpoint(path)
    check_config(cfg, path, checkpoint)
    saved = parse_yaml(checkpoint.get("cfg", ""))
    return bool(saved.get("TRAIN", {}).get("RESUME", False))


def write(directory: str, state: dict[str, Any]) -> None:
    """Replaces ``<directory>/resume.pth.tar`` by ``state``, all at once."""
    os.makedirs(directory, exist_ok=True)
    with atomic_write(os.path.join(directory, FILE_NAME)) as file:
        torch.save(state, file)


def read(directory: str, cfg: CfgNode) -> dict[str, Any]:
    """The state in ``<directory>/resume.pth.tar``.

    Raises:
        ValueError: the file is of a run with another configuration, or damaged.
    """
    path = os.path.join(directory, FILE_NAME)
    logger.info("Found checkpoint at %s (will resume training)", directory)
    logger.info('Loading checkpoint from "%s"', path)
    try:
        state = read_dictionary(path)
        if missing := [key for key in KEYS if key not in state]:
            raise ValueError(f"it has no {', '.join(missing)}")
    except ValueError as error:
        raise ValueError(
            f'"{path}" ({os.path.getsize(path):,} bytes) is cut off or not a resume file: '
            "delete it to start anew"
        ) from error
    check_config(cfg, path, state)
    return state


def check_config(cfg: CfgNode, path: str, state: dict[str, Any]) -> None:
    """Refuses to continue from a file that a run with another configuration wrote.

    Args:
        cfg: the present configuration.
        path: where the file is.
        state: its content; what is under ``cfg``, the text of its configuration, is compared. Dassl's own
            checkpoints have none and pass.

    Raises:
        ValueError: the configurations differ; names the keys. Or the file's is not one.
    """
    try:
        differences = config_differences(state["cfg"], cfg) if "cfg" in state else []
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f'the configuration in "{path}" cannot be read: delete the file, or choose another output folder'
        ) from error
    if differences:
        raise ValueError(
            f'"{path}" is of a run with another configuration ({"; ".join(differences)}): set them back to '
            f'continue it; to start anew delete "{os.path.dirname(path)}" or choose another output folder'
        )


def config_differences(saved: str, cfg: CfgNode) -> list[str]:
    """The settings that decide a result and differ between a saved configuration (YAML text) and ``cfg``.

    Keys that only one side has are left out: other versions of the code declare other keys.
    """
    known = cfg.TRAINER.NAME in TRAINER_REGISTRY.registered_names()
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME) if known else None
    old, new = flatten(parse_yaml(saved)), deciding_settings(parse_yaml(cfg.dump()), trainer)
    return [
        f"{key} was {old[key]!r}, is {new[key]!r}"
        for key in sorted(old.keys() & new.keys())
        if old[key] != new[key]
    ]

"""A run's folder: whether it is finished or in use, and what an evaluation takes from another one."""

import argparse
import contextlib
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import load_checkpoint
from fileio import InUse, exclusive, file_digest, remove_leftovers
from trainers.common.config import parse_cfg
from trainers.common.export import FILE_NAME as EXPORT_NAME
from trainers.common.export import recorded_backbone
from trainers.common.provenance import backbone_digest, other_backbone
from trainers.common.record import differing_settings, read_record, settings, show_differences

logger = logging.getLogger(__name__)

# What a run writes whole: in its folder, and in those of its models.
FILES = re.compile(r"results\.json|config\.yaml|adapter\.safetensors|resume\.pth\.tar|metrics\.jsonl")
CHECKPOINTS = re.compile(r"model\.pth\.tar-(\d+)|model-best\.pth\.tar|checkpoint")


def is_finished(cfg: CfgNode, args: argparse.Namespace, loaded: dict[str, str]) -> bool:
    """Whether this very run is finished already.

    Raises:
        ValueError: the output folder holds a run of something else; the differences are named.
    """
    output = Path(cfg.OUTPUT_DIR)
    record = read_record(cfg.OUTPUT_DIR)
    if record is None:
        if args.eval_only and ((output / "resume.pth.tar").exists() or any(output.glob("*/model*.pth.tar*"))):
            raise ValueError(f'--output-dir "{output}" holds a training run; evaluate into another folder')
        return False
    different = show_differences(cfg, record, differing_settings(cfg, record))
    if record.get("eval_only") != args.eval_only:
        different += f"; eval_only {record.get('eval_only')} != {args.eval_only}"
    if on_other_weights(cfg, record):
        different += "; the weights of the backbone"
    if record.get("loaded") != loaded:
        different += "; the evaluated weights"
    if different:
        raise ValueError(
            f'"{output}" holds a finished run with other settings ({different.lstrip("; ")}); '
            "choose another output folder, or delete that one to lose it"
        )
    return True


def check_model_dir(cfg: CfgNode, args: argparse.Namespace) -> None:
    """A model is evaluated as it was trained, unless the command line itself says otherwise.

    Raises:
        ValueError: a setting of model or method differs, or the backbone has other weights; the differences
            are named.
    """
    record = read_record(args.model_dir) or recorded_in_checkpoint(args)
    if record is None:  # trained by other code
        return
    said = {*args.opts[::2], "MODEL.BACKBONE.NAME" if args.backbone else ""}
    different = [
        key
        for key in differing_settings(cfg, record)
        if key.startswith(("MODEL.", "TRAINER.")) and key not in said
    ]
    if different:
        raise ValueError(
            f'"{args.model_dir}" was trained with other settings '
            f"({show_differences(cfg, record, different)}); "
            "give the same KEY VALUE pairs here, or the new values if you mean them"
        )
    if digests := on_other_weights(cfg, record):
        text = (
            f'"{args.model_dir}" was trained on other weights than backbone "{cfg.MODEL.BACKBONE.NAME}" has '
            f"({digests})"
        )
        if "MODEL.BACKBONE.NAME" not in said:
            raise ValueError(f"{text}; put the former back, or name those you mean with --backbone")
        logger.warning("%s; they are used because the command line names them", text)


def on_other_weights(cfg: CfgNode, record: dict[str, Any]) -> str:
    """How a recorded run's backbone differs from the present one; "" where it does not."""
    return other_backbone(record.get("backbone_sha256"), backbone_digest(cfg.MODEL.BACKBONE.NAME))


def recorded_in_checkpoint(args: argparse.Namespace) -> dict[str, Any] | None:
    """Configuration and backbone of a run without record, as far as its files tell; None for other code's.

    Raises:
        ValueError: what is there is no configuration.
    """
    for path in evaluated_files(args):
        text = load_checkpoint(str(path)).get("cfg")
        if not text:
            continue
        try:
            config = settings(parse_cfg(text))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f'the configuration in "{path}" cannot be read; fetch the file again') from error
        return {"config": config, "backbone_sha256": recorded_backbone(path.with_name(EXPORT_NAME))}
    return None


def last_epoch(model_dir: str) -> int:
    """The last epoch whose weights lie in a finished run's folder."""
    folder = Path(model_dir)
    names = [CHECKPOINTS.fullmatch(file.name) for file in folder.glob("*/model.pth.tar-*")]
    epochs = [int(name[1]) for name in names if name]
    if (folder / "resume.pth.tar").exists():
        raise ValueError(
            f'training in "{model_dir}" is not finished; run its training command again, it resumes'
        )
    if not epochs:
        raise FileNotFoundError(f'no trained model in "{model_dir}" (from --model-dir); train first')
    return max(epochs)


def evaluated_files(args: argparse.Namespace) -> list[Path]:
    """The checkpoints that an evaluation loads."""
    if not (args.eval_only and args.model_dir):
        return []
    name = "model-best.pth.tar" if args.load_epoch is None else f"model.pth.tar-{args.load_epoch}"
    return sorted(Path(args.model_dir).glob(f"*/{name}"))


def loaded_files(args: argparse.Namespace) -> dict[str, str]:
    """Their SHA-256 by name of the model: results of other weights must not pass for this evaluation's."""
    return {path.parent.name: file_digest(path) for path in evaluated_files(args)}


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a run's folder.

    Raises:
        ValueError: there is one already, or the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'--output-dir "{folder}" cannot be made: {error}') from error
    with contextlib.ExitStack() as stack:
        try:
            locked = stack.enter_context(exclusive(folder / ".lock"))
        except InUse as holder:
            raise ValueError(
                f'another process is running in "{folder}" ({holder}); wait for it or stop it'
            ) from None
        except OSError as error:
            raise ValueError(f'--output-dir "{folder}" cannot be written: {error}') from error
        if locked:
            remove_leftovers(folder, FILES)
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    remove_leftovers(entry, CHECKPOINTS)
        yield


@contextlib.contextmanager
def saved_traceback(folder: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Keeps the traceback of errors that are shown as one line in ``traceback.txt``."""
    try:
        yield
    except errors:
        with contextlib.suppress(OSError):
            (folder / "traceback.txt").write_text(
                traceback.format_exc(), encoding="utf-8", errors="backslashreplace"
            )
        raise
    (folder / "traceback.txt").unlink(missing_ok=True)

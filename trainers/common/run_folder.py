"""A run's folder: whether it is finished or in use, and what an evaluation takes from another one."""

import argparse
import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from trainers.common.export import FILE_NAME as EXPORT_NAME
from trainers.common.export import recorded_backbone
from trainers.common.precision import AUTO, decide, device_of, is_emulated, is_native
from trainers.common.provenance import backbone_digest, file_digest, other_backbone
from trainers.common.record import (
    differing_settings,
    other_methods,
    read_record,
    settings,
    show_differences,
)

logger = logging.getLogger(__name__)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def settle_precision(cfg: CfgNode, args: argparse.Namespace) -> list[tuple[int, str]]:
    """Replaces ``PREC auto`` in ``cfg`` by the precision of this run, so that it is recorded and compared.

    A run that was finished or begun keeps its precision, and a model is evaluated in the one it was trained
    in; anything else gets what ``decide`` says. On a CPU that only emulates a half precision, evaluation is
    in fp32 instead, unless the command line names a precision.

    Returns:
        Levels and texts of what the log must say about it.
    """
    others = other_methods(cfg)
    nodes = [name for name, node in cfg.TRAINER.items() if name not in others and "PREC" in (node or ())]
    if len(nodes) != 1:  # the trainer's options have another name than the trainer, or there is no PREC
        return []
    key, device = f"TRAINER.{nodes[0]}.PREC", device_of(cfg)
    asked = cfg.TRAINER[nodes[0]].PREC
    here = recorded_config(cfg.RESUME or cfg.OUTPUT_DIR).get(key)
    trained = recorded_config(args.model_dir).get(key) if args.eval_only and args.model_dir else None
    chosen, notes = asked, []
    if asked == AUTO and (here or trained):
        chosen = here or trained
        text = f"{key} auto is {chosen}, as in the run that is {'continued' if here else 'evaluated'}"
        notes.append((logging.INFO, text))
    elif asked == AUTO:
        kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        chosen = decide(asked, getattr(kind, "published_precision", "fp16"), device)
        text = f"{key} auto is {chosen} on this {'GPU' if device.type == 'cuda' else 'CPU'}"
        if device.type == "cpu" and is_native(torch.bfloat16):
            text += f"; it multiplies bf16 natively: {key} bf16 is the quicker choice at ViT-B/16's size"
        notes.append((logging.INFO, text))
    named = asked != AUTO and key in args.opts[::2]
    if trained and is_emulated(trained, device) and not named and chosen != here:
        chosen = "fp32"
        text = f"The model was trained in {trained}, which this CPU only emulates: it is evaluated in fp32"
        notes = [(logging.INFO, f"{text} ({key} {trained} on the command line evaluates it in {trained})")]
    if is_emulated(chosen, device):
        text = f"{key} is {chosen}, which this CPU only emulates, 10 to 100 times as slow as fp32"
        notes.append((logging.WARNING, f"{text}; set it to auto or fp32 in a new output folder"))
    cfg.defrost()
    cfg.TRAINER[nodes[0]].PREC = chosen
    cfg.freeze()
    return notes


def recorded_config(folder: str) -> dict[str, Any]:
    """The configuration of the run in a folder, by dotted key; empty where no file there tells it.

    Files that cannot be read tell nothing here: whoever needs their content says what is wrong with them.
    """
    with contextlib.suppress(ValueError):
        if record := read_record(folder):
            return record["config"]
    for path in [*Path(folder).glob("resume.pth.tar"), *sorted(Path(folder).glob("*/model*.pth.tar*"))]:
        with contextlib.suppress(Exception):
            # mmap: the weights, hundreds of MB, are not read
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            return settings(CfgNode.load_cfg(content["cfg"]))
    return {}


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
        if key.startswith(("MODEL.", "TRAINER."))
        and key not in said
        and not (key.endswith(".PREC") and is_emulated(record["config"][key], device_of(cfg)))
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
            config = settings(CfgNode.load_cfg(text))
        except (yaml.YAMLError, AssertionError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f'the configuration in "{path}" cannot be read; fetch the file again') from error
        return {"config": config, "backbone_sha256": recorded_backbone(path.with_name(EXPORT_NAME))}
    return None


def last_epoch(model_dir: str) -> int:
    """The last epoch whose weights lie in a finished run's folder."""
    folder = Path(model_dir)
    epochs = [int(file.name.rsplit("-", 1)[1]) for file in folder.glob("*/model.pth.tar-*")]
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
        ValueError: there is one already, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'--output-dir "{folder}" cannot be made: {error}') from error
    if fcntl is None:
        yield
        return
    lock = folder / ".lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'another process is running in "{folder}"; wait for it or stop it') from None
        except OSError:  # a file system without locks
            yield
            return
        for leftover in folder.glob("**/*.tmp-*"):  # half-written by a process that was killed
            leftover.unlink()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


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

"""A run's folder: whether it is finished or in use, and what an evaluation takes from another one."""

import argparse
import contextlib
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from adapt.adapter_file import FILE_NAME, read_metadata, recorded_prompts
from adapt.precision import AUTO, decide, is_emulated, is_native
from adapt.prompts import prompts_digest
from clip import weights_digest
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import load_checkpoint
from fileio import InUse, describe_mismatch, exclusive, file_digest, remove_leftovers
from fileio.unpickle import read_tensors
from runner.config import parse_cfg
from runner.provenance import describe_data
from runner.record import (
    differing_settings,
    other_methods,
    read_record,
    settings,
    show_differences,
    trainer_class,
)
from trainers.clip_trainer import device_of

logger = logging.getLogger(__name__)

# Ends of the options that decide a class's prompts.
PROMPT_KEYS = ("TEMPLATE", "TEMPLATES", "DESCRIPTIONS", "INPUT_PROMPTS", "CTX_INIT", "N_CTX")

# What a run writes whole: in its folder, and in those of its models.
FILES = re.compile(r"results\.json|config\.yaml|resume\.pth\.tar|metrics\.jsonl|traceback\.txt")
CHECKPOINTS = re.compile(r"model\.pth\.tar-(\d+)|model-best\.pth\.tar|checkpoint|adapter\.safetensors")
# Stands in the logs and tracebacks of our runs; parse_test_res.py looks for it.
OPENING = "VLM-HeBA: a run is finished when its results.json is there"


def settle_precision(cfg: CfgNode, args: argparse.Namespace) -> list[tuple[int, str]]:
    """Replaces ``PREC auto`` in ``cfg`` by the precision of this run, so that it is recorded and compared.

    Returns:
        Levels and texts of what the log must say about it.
    """
    others = other_methods(cfg)
    nodes = [name for name, node in cfg.TRAINER.items() if name not in others and "PREC" in (node or ())]
    begun = recorded_config(cfg.RESUME or cfg.OUTPUT_DIR)
    trained = recorded_config(args.model_dir) if args.eval_only and args.model_dir else {}
    cfg.defrost()
    notes = []
    for node in nodes:
        key = f"TRAINER.{node}.PREC"
        asked = cfg.TRAINER[node].PREC
        named = asked != AUTO and key in args.opts[::2]
        cfg.TRAINER[node].PREC, said = choose_precision(
            key, asked, begun=begun.get(key), trained=None if named else trained.get(key), cfg=cfg
        )
        notes.append(said)
    cfg.freeze()
    # The trainer's own options are those under its name; of a trainer without such all may be read.
    return notes[0] if len(notes) == 1 else []


def choose_precision(
    key: str, asked: str, *, begun: str | None, trained: str | None, cfg: CfgNode
) -> tuple[str, list[tuple[int, str]]]:
    """The precision of a run, and what the log must say about it.

    Args:
        key: of the precision.
        asked: its value: a precision or auto.
        begun: precision of the run that lies in the output folder.
        trained: precision of the training of the model that is evaluated, unless another one is named.
        cfg: the configuration, of which trainer and device count.
    """
    device = device_of(cfg)
    if trained and is_emulated(trained, device) and begun != trained:
        return "fp32", [
            (
                logging.INFO,
                f"The model was trained in {trained}, which this CPU only emulates: it is evaluated in fp32 "
                f"({key} {trained} on the command line evaluates it in {trained})",
            )
        ]
    chosen, text = asked, ""
    if asked == AUTO and (begun or trained):
        chosen = begun or trained
        text = f"{key} auto is {chosen}, as in the run that is {'continued' if begun else 'evaluated'}"
    elif asked == AUTO:
        method = getattr(trainer_class(cfg), "method", None)
        published = getattr(method, "published_precision", "fp16")
        chosen = decide(asked, published, device.type == "cuda")
        text = f"{key} auto is {chosen} on this {'GPU' if device.type == 'cuda' else 'CPU'}"
        if device.type == "cpu" and is_native(torch.bfloat16):
            text += f"; it multiplies bf16 natively: {key} bf16 is the quicker choice at ViT-B/16's size"
    elif trained == asked and begun == "fp32":  # evaluated before, on a CPU that only emulates the training's
        chosen = begun
    notes = [(logging.INFO, text)] if text else []
    if is_emulated(chosen, device):
        text = f"{key} is {chosen}, which this CPU only emulates, many times slower than fp32"
        notes.append((logging.WARNING, f"{text}; set it to auto or fp32 in a new output folder"))
    return chosen, notes


def recorded_config(folder: str) -> dict[str, Any]:
    """The configuration of the run in a folder, by dotted key; empty where no file there tells it.

    Files that cannot be read tell nothing here: whoever needs their content says what is wrong with them.
    """
    with contextlib.suppress(ValueError):
        if record := read_record(folder):
            return record["config"]
    for path in [*Path(folder).glob("resume.pth.tar"), *sorted(Path(folder).glob("*/model*.pth.tar*"))]:
        with contextlib.suppress(Exception):
            return settings(parse_cfg(read_tensors(path, mmap=True)["cfg"]))
    return {}


def is_finished(cfg: CfgNode, args: argparse.Namespace, loaded: dict[str, str]) -> bool:
    """Whether this very run is finished already.

    Args:
        cfg: its configuration.
        args: its command line.
        loaded: SHA-256 of the files that it evaluates.

    Raises:
        ValueError: the output folder holds a run of something else, and the differences are named; or the
            weights in it are damaged.
    """
    output = Path(cfg.OUTPUT_DIR)
    record = read_record(cfg.OUTPUT_DIR)
    if record is None:
        if args.eval_only and ((output / "resume.pth.tar").exists() or any(output.glob("*/model*.pth.tar*"))):
            raise ValueError(f'--output-dir "{output}" holds a training run; evaluate into another folder')
        return False
    different = []
    if keys := differing_settings(cfg, record):
        different.append(show_differences(cfg, record, keys))
    if record.get("eval_only") != args.eval_only:
        different.append(f"eval_only {record.get('eval_only')} != {args.eval_only}")
    if backbone_mismatch(cfg, record):
        different.append("the weights of the backbone")
    if record.get("loaded") != loaded:
        different.append("the evaluated weights")
    if not different:
        different = different_inputs(cfg, record)
    if different:
        raise ValueError(
            f'"{output}" holds a finished run with other settings ({"; ".join(different)}); '
            "choose another output folder, or delete that one to lose it"
        )
    check_saved(output, record)
    return True


def different_inputs(cfg: CfgNode, record: dict[str, Any]) -> list[str]:
    """The inputs of a recorded run, prompts and pictures by part, that the data folder no longer gives.

    Where the data cannot be read, a warning says so and nothing is compared.
    """
    method = trainer_class(cfg)
    try:
        dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
        data = describe_data(dataset, cfg.DATASET.ROOT)
        prompts = None
        if hasattr(method, "method_of"):
            prompts = prompts_digest(method.method_of(cfg).prompts(dataset.classnames))
    except (ValueError, OSError) as error:
        logger.warning(
            "The pictures and prompts of the finished run in %s cannot be compared: %s", cfg.OUTPUT_DIR, error
        )
        return []
    found = [("the prompts", record.get("prompts_sha256"), prompts)]
    for part in ("train", "val", "test") if cfg.SEED >= 0 else ("test",):  # unseeded shots are others anyway
        there, here = (digests.get(part, {}).get("sha256") for digests in (record.get("data", {}), data))
        found.append((f"the pictures of {part}", there, here))
    compared = ((what, describe_mismatch(there, here)) for what, there, here in found)
    return [f"{what}: {digests}" for what, digests in compared if digests]


def check_saved(output: Path, record: dict[str, Any]) -> None:
    """Refuses weights of a finished training run that changed since; those that were deleted are named.

    Raises:
        ValueError: a file has another digest than the record says.
    """
    saved = {
        f"{name}/model.pth.tar-{record.get('epochs')}": sha256
        for name, sha256 in record.get("saved", {}).items()
    }
    for name, sha256 in (saved | record.get("exported", {})).items():
        path = output / name
        if not path.is_file():
            logger.warning('"%s" of the finished run is gone; delete its folder to train it again', path)
        elif digests := describe_mismatch(sha256, file_digest(path)):
            raise ValueError(
                f'"{path}" is damaged or replaced since training ended: {digests}; put it back, or delete '
                f'"{output}" to train again'
            )


def check_loaded(args: argparse.Namespace, trainer: Any, loaded: dict[str, str]) -> None:
    """A model is evaluated with the weights that training left, and with the prompts that its classes had.

    Args:
        args: the command line.
        trainer: the trainer that evaluates.
        loaded: SHA-256 of the checkpoints that it loaded, by name of the model.

    Raises:
        ValueError: a checkpoint has another digest than the record of its training says; or a class of the
            same data set had other prompts, and the command line does not name others.
    """
    record = read_record(args.model_dir) or {}
    saved = record.get("saved", {}) if record.get("epochs") == args.load_epoch else {}
    for path in evaluated_files(args):
        if digests := describe_mismatch(saved.get(path.parent.name), loaded[path.parent.name]):
            raise ValueError(f'"{path}" is damaged or replaced since training: {digests}; train again')
    dataset, texts = trainer.cfg.DATASET.NAME, getattr(trainer, "class_prompts", ())
    here = dict(zip(trainer.dm.dataset.classnames, texts, strict=False))
    for path in Path(args.model_dir).glob(f"*/{FILE_NAME}"):
        trained = recorded_prompts(path, dataset)
        other = [name for name, prompts in here.items() if trained.get(name, prompts) != prompts]
        if not other:
            continue
        text = (
            f'"{args.model_dir}" was trained with other prompts of {len(other)} classes ({other[0]}, …) than '
            "the configuration and the descriptions give now"
        )
        if not any(key.endswith(PROMPT_KEYS) for key in args.opts[::2]):
            raise ValueError(f"{text}; put the former back, or name those you mean as KEY VALUE")
        logger.warning("%s; they are used because the command line names them", text)


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
    if digests := backbone_mismatch(cfg, record):
        text = (
            f'"{args.model_dir}" was trained on other weights than backbone "{cfg.MODEL.BACKBONE.NAME}" has '
            f"({digests})"
        )
        if "MODEL.BACKBONE.NAME" not in said:
            raise ValueError(f"{text}; put the former back, or name those you mean with --backbone")
        logger.warning("%s; they are used because the command line names them", text)


def backbone_mismatch(cfg: CfgNode, record: dict[str, Any]) -> str:
    """How a recorded run's backbone differs from the present one; "" where it does not."""
    return describe_mismatch(record.get("backbone_sha256"), weights_digest(cfg.MODEL.BACKBONE.NAME))


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
        metadata = read_metadata(path.with_name(FILE_NAME))
        return {"config": config, "backbone_sha256": metadata.get("backbone_sha256")}
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
    planned = recorded_config(model_dir).get("OPTIM.MAX_EPOCH", max(epochs))
    if max(epochs) < planned:  # checkpoints on the way, of a run that ended before its resume file was due
        raise ValueError(
            f'training in "{model_dir}" ended after epoch {max(epochs)} of {planned}; run its training '
            f"command again, it resumes; or name that epoch with --load-epoch {max(epochs)}"
        )
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
def exclusive_run_folder(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a run's folder.

    Raises:
        ValueError: there is one already, the folder cannot be made or written, or holds others' files.
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
        check_own(folder)
        if locked:
            remove_leftovers(folder, FILES)
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    remove_leftovers(entry, CHECKPOINTS)
        yield


def check_own(folder: Path) -> None:
    """Refuses a folder where a run would write over files that no run has made.

    Raises:
        ValueError: there is such a file, or a ``results.json`` that is not a run's.
    """
    if (folder / "resume.pth.tar").exists() or read_record(str(folder)):
        return
    if any(path.is_file() for path in folder.glob("*/checkpoint")):
        return
    if any(has_opening(path) for path in [*folder.glob("log.txt*"), folder / "traceback.txt"]):
        return
    written = [path for path in folder.iterdir() if FILES.fullmatch(path.name)]
    written += [path for path in folder.glob("*/*") if CHECKPOINTS.fullmatch(path.name)]
    if written:
        raise ValueError(
            f'"{min(written)}" is not of a run, which would write over it; move it away, or choose another '
            "--output-dir"
        )


def has_opening(path: Path) -> bool:
    """Whether the first megabyte of a file has our opening line."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return OPENING.encode() in file.read(1 << 20)


@contextlib.contextmanager
def saved_traceback(folder: Path) -> Iterator[None]:
    """Keeps the traceback of errors that are shown as one line in ``traceback.txt``."""
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            text = f"{OPENING}\n\n{traceback.format_exc()}"
            (folder / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        raise
    (folder / "traceback.txt").unlink(missing_ok=True)

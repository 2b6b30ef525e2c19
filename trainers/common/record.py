"""The record of a run: ``results.json``, written last and at once, so that it marks the run as finished."""

import argparse
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

SCHEMA = 1
# Settings that do not change what a run computes: they may differ between a finished run and a repeated call.
NO_EFFECT = {
    *("OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA", "DATASET.ROOT", "DATALOADER.NUM_WORKERS"),
    *("TRAIN.PRINT_FREQ", "TRAIN.RESUME", "TRAIN.CHECKPOINT_FREQ"),
}


def settings(cfg: CfgNode) -> dict[str, Any]:
    """The configuration as ``{"OPTIM.LR": 0.0075, …}`` in JSON's types."""

    def flat(node: CfgNode, prefix: str) -> dict[str, Any]:
        found = {}
        for key, value in node.items():
            if isinstance(value, CfgNode):
                found.update(flat(value, f"{prefix}{key}."))
            else:
                found[prefix + key] = list(value) if isinstance(value, tuple) else value
        return found

    return json.loads(json.dumps(flat(cfg, "")))


def relevant_settings(cfg: CfgNode) -> dict[str, Any]:
    """The settings that decide what a run computes.

    Those of other methods do not: below ``TRAINER`` only the node with the trainer's name in whatever case
    counts (``TRAINER.COOP`` for CoOp), or every node if there is none of that name.
    """
    nodes = [name for name, node in cfg.TRAINER.items() if isinstance(node, CfgNode)]
    own = [name for name in nodes if name.lower() == cfg.TRAINER.NAME.lower()]
    others = tuple(f"TRAINER.{name}." for name in nodes if own and name not in own)
    return {
        key: value
        for key, value in settings(cfg).items()
        if key not in NO_EFFECT and not key.startswith(others)
    }


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 of the settings that matter."""
    return hashlib.sha256(json.dumps(relevant_settings(cfg), sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def differing_settings(cfg: CfgNode, record: dict[str, Any]) -> list[str]:
    """The settings in which a recorded run differs from ``cfg``; keys unknown to it are left out."""
    there = record["config"]
    return [key for key, value in relevant_settings(cfg).items() if key in there and there[key] != value]


def show_differences(cfg: CfgNode, record: dict[str, Any], keys: list[str]) -> str:
    """``KEY there != here; …``."""
    here = settings(cfg)
    return "; ".join(f"{key} {record['config'][key]!r} != {here[key]!r}" for key in keys)


def read_record(output_dir: str) -> dict[str, Any] | None:
    """The record in a run's folder; None if the run is not finished.

    Raises:
        ValueError: the file is not a record.
    """
    path = Path(output_dir) / "results.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        return record | {"config": dict(record["config"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'"{path}" is not the record of a run ({error!r}); delete it to evaluate again'
        ) from error


def write_record(
    cfg: CfgNode, args: argparse.Namespace, trainer: Any, loaded: dict[str, str], seconds: float
) -> None:
    """Writes ``results.json`` so that it is either complete or absent.

    Args:
        cfg: the run's configuration.
        args: its command line.
        trainer: the trainer that has run.
        loaded: SHA-256 of the files that were evaluated.
        seconds: how long training or evaluation took.
    """
    how = {"eval_only": args.eval_only, "model_dir": args.model_dir, "loaded": loaded, "seconds": seconds}
    how["epochs"] = args.load_epoch if args.eval_only else cfg.OPTIM.MAX_EPOCH
    path = Path(cfg.OUTPUT_DIR) / "results.json"
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(describe_run(cfg, trainer) | how, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def evaluation(evaluator: Any, accuracy: float | None = None) -> dict[str, Any]:
    """What an evaluator found, in percent, with counts; the original Dassl's tells the accuracy alone."""
    results = dict(getattr(evaluator, "results", {"accuracy": accuracy}))
    return results | {
        name: getattr(evaluator, name) for name in ("correct", "total") if hasattr(evaluator, name)
    }


def describe_run(cfg: CfgNode, trainer: Any) -> dict[str, Any]:
    """What a record says of a run besides its command: accuracies, configuration, versions, device."""
    results = getattr(trainer, "results", None) or evaluation(trainer.evaluator)
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else platform.processor() or "cpu"
    return {
        "schema": SCHEMA,
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "split": cfg.TEST.SPLIT,
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        **results,
        "num_classes": trainer.num_classes,
        "trainable_parameters": getattr(trainer, "num_trainable", None),
        "config_digest": config_digest(cfg),
        "config": settings(cfg),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": device,
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit this code stands at, with ``-dirty`` if it was changed since; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        here = Path(__file__).parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

"""The record of a run: ``results.json``, written last and at once, so that it marks the run as finished.

Beside it lies ``config.yaml``, the merged configuration. docs/RECORDS.md explains the fields.
"""

import argparse
import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from adapt.prompts import prompts_digest
from dassl.engine import TRAINER_REGISTRY
from fileio import write_text
from fileio.settings import deciding_settings, flatten, options_of_others
from reporting.record import boolean, mapping, optional, parse, text, whole
from runner.provenance import (
    describe_code,
    describe_data,
    describe_machine,
    describe_weights,
    exported_adapters,
    saved_weights,
)
from trainers.clip_trainer import config_text, evaluation

logger = logging.getLogger(__name__)

SCHEMA = 2  # docs/RECORDS.md says what the fields mean


def settings(cfg: CfgNode) -> dict[str, Any]:
    """The configuration as ``{"OPTIM.LR": 0.0075, …}`` in JSON's types."""
    return json.loads(json.dumps(flatten(cfg)))


def relevant_settings(cfg: CfgNode) -> dict[str, Any]:
    """The settings that decide what a run computes, in JSON's types."""
    return json.loads(json.dumps(deciding_settings(cfg, trainer_class(cfg))))


def trainer_class(cfg: CfgNode) -> type | None:
    """The class of the run's trainer; None where the name is not registered."""
    name = cfg.TRAINER.NAME
    return TRAINER_REGISTRY.get(name) if name in TRAINER_REGISTRY.registered_names() else None


def other_methods(cfg: CfgNode) -> list[str]:
    """The nodes below ``TRAINER`` that hold other methods' options."""
    return options_of_others(cfg, trainer_class(cfg))


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 of the settings that matter."""
    return hashlib.sha256(json.dumps(relevant_settings(cfg), sort_keys=True).encode()).hexdigest()


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
        record = parse(path.read_bytes())
        check_types(record)
        return record
    except ValueError as error:
        raise ValueError(
            f'"{path}" is not the record of a run ({error}); delete it to evaluate again, or choose another '
            "--output-dir"
        ) from error


def check_types(record: Any) -> None:
    """Raises ValueError unless what is used of a record has the right type; the message names the field."""
    config = mapping(mapping(record, "it").get("config"), "config")
    for key, value in config.items():
        if key.endswith(".PREC"):
            text(value, f"config.{key}")
    optional(config, "OPTIM.MAX_EPOCH", whole, "config.")
    optional(record, "eval_only", boolean)
    optional(record, "epochs", whole)
    for name in ("backbone_sha256", "prompts_sha256"):
        optional(record, name, text)
    for name in ("loaded", "saved", "exported"):
        digests = optional(record, name, mapping) or {}
        for file in digests:
            optional(digests, file, text, f"{name}.")
    data = optional(record, "data", mapping) or {}
    for part in data:
        optional(mapping(data[part], f"data.{part}"), "sha256", text, f"data.{part}.")


def write_record(
    cfg: CfgNode,
    args: argparse.Namespace,
    trainer: Any,
    *,
    loaded: dict[str, str],
    phases: dict[str, dict[str, Any]],
    command: str,
) -> None:
    """Writes ``config.yaml``, then ``results.json``; each is either complete or absent.

    A ``config.yaml`` that the command line itself names stays as it is.

    Args:
        cfg: the run's configuration.
        args: its command line.
        trainer: the trainer that has run.
        loaded: SHA-256 of the files that were evaluated.
        phases: seconds and peak memory of each phase.
        command: the command line.
    """
    epochs = args.load_epoch if args.eval_only else cfg.OPTIM.MAX_EPOCH
    saved = {} if args.eval_only else saved_weights(cfg.OUTPUT_DIR, cfg.OPTIM.MAX_EPOCH)
    exported = {} if args.eval_only else exported_adapters(cfg.OUTPUT_DIR)
    how = {
        "eval_only": args.eval_only,
        "model_dir": args.model_dir,
        "loaded": loaded,
        "saved": saved,
        "exported": exported,
        "epochs": epochs,
        "seconds": sum(phase["seconds"] for name, phase in phases.items() if name != "build"),
        "phases": phases,
        "command": command,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    folder = Path(cfg.OUTPUT_DIR)
    config = folder / "config.yaml"
    given = [os.path.realpath(path) for path in (args.config_file, args.dataset_config_file) if path]
    if os.path.realpath(config) in given and config.exists():
        logger.warning('"%s" stays as it was given; results.json has the whole configuration', config)
    else:
        write_text(config, config_text(cfg, other_methods(cfg)))
    write_text(folder / "results.json", json_text(describe_run(cfg, trainer) | how) + "\n")


def json_text(value: Any, depth: int = 2, indent: str = "") -> str:
    """JSON with a line for each entry of the outer ``depth`` levels; what lies deeper stays on its line."""
    if not depth or not value or not isinstance(value, (dict, list)):
        return json.dumps(value)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {json_text(part, depth - 1, inner)}" for key, part in value.items()]
    else:
        lines = [json_text(part, depth - 1, inner) for part in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return start + "\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}{end}"


def describe_run(cfg: CfgNode, trainer: Any) -> dict[str, Any]:
    """What a record says of a run besides its command: accuracies, configuration, code, machine, data."""
    results = getattr(trainer, "results", None)
    if not results:
        results = evaluation(trainer.evaluator, classnames=getattr(trainer, "lab2cname", None))
    prompts = getattr(trainer, "class_prompts", None)
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
        "trainable_parameters": trainable_parameters(trainer),
        **describe_weights(cfg),
        "data": describe_data(trainer.dm.dataset, cfg.DATASET.ROOT),
        "prompts_sha256": None if prompts is None else prompts_digest(prompts),
        "config_digest": config_digest(cfg),
        "config": settings(cfg),
        **describe_code(),
        **describe_machine(trainer.device),
    }


def trainable_parameters(trainer: Any) -> int:
    """Number of weights that training changes."""
    if hasattr(trainer, "num_trainable"):
        return trainer.num_trainable
    weights = (weight for model in trainer._models.values() for weight in model.parameters())
    return sum(weight.numel() for weight in weights if weight.requires_grad)

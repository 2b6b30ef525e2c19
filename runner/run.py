"""One run: builds the trainer, trains or evaluates, and leaves the record."""

import argparse
import logging
import shlex
import time
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from adapt.adapter_file import FILE_NAME
from command_line import names_file
from dassl.engine import build_trainer
from dassl.utils import collect_env_info, set_random_seed
from runner.config import check_named, setup_cfg
from runner.folder import (
    OPENING,
    check_loaded,
    check_model_dir,
    exclusive_run_folder,
    is_finished,
    last_epoch,
    loaded_files,
    saved_traceback,
    settle_precision,
)
from runner.log import run_log
from runner.phases import Phases
from runner.record import write_record

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, command: str) -> None:
    """Builds and runs the trainer; ``results.json`` comes last.

    Args:
        args: the command line.
        command: the same as text, for the record.
    """
    cfg = setup_cfg(args)
    check_named(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    with names_file(cfg.OUTPUT_DIR), exclusive_run_folder(folder), saved_traceback(folder):
        if args.load_epoch == "last":
            args.load_epoch = last_epoch(args.model_dir)
        notes = settle_precision(cfg, args)
        loaded = loaded_files(args)
        if not args.no_train and is_finished(cfg, args, loaded):
            print(f"Finished already: {folder / 'results.json'} (delete the folder to run again)")
            return
        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
        with run_log(cfg.OUTPUT_DIR):
            _train_or_evaluate(cfg, args, command, notes, loaded)


def _train_or_evaluate(
    cfg: CfgNode,
    args: argparse.Namespace,
    command: str,
    notes: list[tuple[int, str]],
    loaded: dict[str, str],
) -> None:
    phases = Phases()
    with phases.phase("build"):
        trainer = build(cfg, args, notes, loaded)
    if args.no_train:
        return
    phases.time_test(trainer)
    if args.eval_only:
        trainer.test()
    else:
        start = time.time()
        with phases.phase("train"):
            trainer.train()
        # a run that was cut and resumed counts its time from its first start
        phases.found["train"]["seconds_before"] = max(0.0, start - getattr(trainer, "time_start", start))
        phases.found["train"]["start_epoch"] = trainer.start_epoch
    write_record(cfg, args, trainer, loaded=loaded, phases=phases.found, command=command)
    if not args.eval_only:
        say_how_to_predict(Path(cfg.OUTPUT_DIR))


def build(
    cfg: CfgNode, args: argparse.Namespace, notes: list[tuple[int, str]], loaded: dict[str, str]
) -> Any:
    """Opens the log with arguments, configuration and ``notes``; builds the trainer; loads what is evaluated.

    Args:
        cfg: the configuration.
        args: the command line.
        notes: levels and texts of what the log must say.
        loaded: SHA-256 of the checkpoints that are evaluated, by name of the model.
    """
    if args.eval_only and args.model_dir:
        check_model_dir(cfg, args)
    print_args(args, cfg)
    for level, text in notes:
        logger.log(level, text)
    print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
    trainer = build_trainer(cfg)
    if args.eval_only:
        if trainer.get_model_names() and not args.model_dir:
            raise ValueError("--eval-only needs --model-dir: there are no trained weights to evaluate")
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        if args.model_dir:
            check_loaded(args, trainer, loaded)
    return trainer


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Dassl's opening lines of a log, and ours."""
    stars = "*" * 15
    print(f"{stars}\n** Arguments **\n{stars}")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    stars = "*" * 12
    print(f"{stars}\n** Config **\n{stars}\n{cfg}")
    print(OPENING)


def say_how_to_predict(folder: Path) -> None:
    """The last lines of a training: where its adapter lies, and the command that predicts with it."""
    for path in sorted(folder.glob(f"*/{FILE_NAME}")):
        print(f"The adapter is in {path}")
        print(f"Predict with it: python predict.py <pictures> --model-dir {shlex.quote(str(folder))}")

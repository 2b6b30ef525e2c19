"""One run: reads the configurations, builds the trainer, trains or evaluates. The command line is CoOp's.

    python train.py <arguments of a run> [--then <arguments of another run> ...]

Runs after --then follow in the same process, which saves starting Python and torch again; each has its own
folder and log, and its results are those of a process of its own.
"""

import argparse
import gc
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from trainers.common.process import set_up_process

USAGE_ERROR = 2
INTERRUPTED = 130


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's flags; ``--seed 0`` is a seed here, and ``--load-epoch`` also takes the word last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="", help="path to datasets")
    parser.add_argument("--output-dir", default="", help="output directory")
    parser.add_argument("--resume", default="", help="run folder from which training resumes")
    parser.add_argument("--seed", type=int, help="a value of 0 or more fixes the seed")
    parser.add_argument("--source-domains", nargs="+", help="source domains")
    parser.add_argument("--target-domains", nargs="+", help="target domains")
    parser.add_argument("--transforms", nargs="+", help="data augmentation methods")
    parser.add_argument("--config-file", default="", help="configuration of the method")
    parser.add_argument("--dataset-config-file", default="", help="configuration of the data set")
    parser.add_argument("--trainer", default="", help="name of the trainer, e.g. HeBA")
    parser.add_argument("--backbone", default="", help="CLIP model: a name (ViT-B/16) or a path to weights")
    parser.add_argument("--head", default="", help="name of head")
    parser.add_argument("--eval-only", action="store_true", help="evaluation only")
    parser.add_argument("--model-dir", default="", help="run folder whose weights are evaluated")
    parser.add_argument(
        "--load-epoch", type=epoch, help="epoch to load: a number or last (default: the best model)"
    )
    parser.add_argument("--no-train", action="store_true", help="do not call trainer.train()")
    parser.add_argument(
        "opts", default=[], nargs=argparse.REMAINDER, help="configuration options: KEY VALUE …"
    )
    args = parser.parse_args(argv)
    args.opts = args.opts[1:] if args.opts[:1] == ["--"] else args.opts
    return args


def epoch(text: str) -> int | str:
    """Type of ``--load-epoch``."""
    return text if text == "last" else int(text)


def print_args(args: argparse.Namespace, cfg: Any) -> None:
    """Dassl's opening lines of a log."""
    stars = "*" * 15
    print(f"{stars}\n** Arguments **\n{stars}")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    stars = "*" * 12
    print(f"{stars}\n** Config **\n{stars}\n{cfg}")
    print("VLM-HeBA: a run is finished when its results.json is there")  # parse_test_res.py looks for it


def run(args: argparse.Namespace, argv: list[str]) -> None:
    """Builds and runs the trainer; ``results.json`` comes last."""
    from trainers.common.config import check_named, setup_cfg
    from trainers.common.phases import Phases
    from trainers.common.record import write_record
    from trainers.common.run_folder import (
        alone_in,
        is_finished,
        last_epoch,
        loaded_files,
        saved_traceback,
        settle_precision,
    )

    cfg = setup_cfg(args)
    check_named(cfg)
    with alone_in(Path(cfg.OUTPUT_DIR)), saved_traceback(Path(cfg.OUTPUT_DIR), USUAL_ERRORS):
        if args.load_epoch == "last":
            args.load_epoch = last_epoch(args.model_dir)
        notes = settle_precision(cfg, args)
        loaded = loaded_files(args)
        if not args.no_train and is_finished(cfg, args, loaded):
            print(
                f"Finished already: {Path(cfg.OUTPUT_DIR) / 'results.json'} (delete the folder to run again)"
            )
            return
        phases = Phases()
        with phases.phase("build"):
            trainer = build(cfg, args, notes)
        if args.no_train:
            return
        trainer.test = phases.of("test", trainer.test)
        if args.eval_only:
            trainer.test()
        else:
            start = time.time()
            phases.of("train", trainer.train)()
            # a run that was cut and resumed counts its time from its first start
            phases.found["train"]["seconds_before"] = max(0.0, start - trainer.time_start)
            phases.found["train"]["start_epoch"] = trainer.start_epoch
        command = shlex.join(["python", "train.py", *argv])
        write_record(cfg, args, trainer, loaded=loaded, phases=phases.found, command=command)
        # The circle would leave the loaders' workers to the garbage collector, which waits 5 s for each.
        del trainer.test


def build(cfg: Any, args: argparse.Namespace, notes: list[tuple[int, str]]) -> Any:
    """Seeds, opens the log, writes ``notes`` to it, builds the trainer, and loads the weights to evaluate."""
    from dassl.engine import build_trainer
    from dassl.utils import collect_env_info, set_random_seed, setup_logger
    from trainers.common.run_folder import check_loaded, check_model_dir

    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    # Does nothing where Dassl has set up logging; the original Dassl prints, and has not.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if args.eval_only and args.model_dir:
        check_model_dir(cfg, args)
    print_args(args, cfg)
    for level, text in notes:
        logging.getLogger(__name__).log(level, text)
    print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
    trainer = build_trainer(cfg)
    if args.eval_only:
        if trainer.get_model_names() and not args.model_dir:
            raise ValueError("--eval-only needs --model-dir: there are no trained weights to evaluate")
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        if args.model_dir:
            check_loaded(args, trainer)
    return trainer


# What is mostly a setting, a missing file or a full disk, and not a fault of the program.
USUAL_ERRORS = (ValueError, LookupError, OSError, FloatingPointError)


def one_line(error: Exception) -> str:
    """The message of an error; of a loader worker's error, whose message is a traceback, the last line."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if "Original Traceback" in message:
        message = message.strip().splitlines()[-1].split(": ", 1)[-1]
    if message == "Loss is infinite or NaN!":  # Dassl's words
        message += " Lower OPTIM.LR, or compute in PREC bf16 or fp32"
    return " ".join(message.split())


def split_runs(argv: list[str]) -> list[list[str]]:
    """The arguments of each run: what stands before, between and after ``--then``."""
    runs: list[list[str]] = [[]]
    for word in argv:
        if word == "--then":
            runs.append([])
        else:
            runs[-1].append(word)
    return runs


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 a user's mistake, 130 interrupted; whatever is not 0 ends it."""
    runs = split_runs(sys.argv[1:] if argv is None else argv)
    parsed = [parse_args(words) for words in runs]
    console = sys.stdout
    set_up_process()
    original = os.environ.get("DASSL_PATH")
    if original and not (Path(original) / "dassl" / "__init__.py").is_file():
        print(
            f'error: DASSL_PATH is "{original}", which holds no package dassl; unset it or correct it',
            file=sys.stderr,
        )
        return USAGE_ERROR
    if original:
        sys.path.insert(0, original)
    status = run_and_report(parsed[0], runs[0])
    for args, words in zip(parsed[1:], runs[1:], strict=True):
        if status:
            break
        sys.stdout = console  # the next run opens its own log
        logging.getLogger().handlers.clear()
        gc.collect()  # the last run's model makes room for the next one's
        status = run_and_report(args, words)
    return status


def run_and_report(args: argparse.Namespace, argv: list[str]) -> int:
    """One run; mistakes and interrupts become a line and an exit status."""
    try:
        run(args, argv)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except USUAL_ERRORS as error:
        if os.environ.get("HEBA_TRACEBACK"):
            raise
        print(f"error: {one_line(error)} (HEBA_TRACEBACK=1 shows where)", file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())

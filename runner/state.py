"""What is there already: which data sets, and which jobs are finished."""

import json
from dataclasses import replace
from pathlib import Path

from reporting.read import read_results
from runner.jobs import Job, Run, dataset_config
from runner.problems import Problems


def missing_reason(dataset: str, root: Path) -> str:
    """Why a data set cannot be used, in a few words; "" if its folder is there."""
    try:
        config = dataset_config(dataset)
    except ValueError:
        return "no loader"
    from dassl.data.datasets import DATASET_REGISTRY
    from runner.config import import_all, parse_cfg

    import_all("datasets")
    name = parse_cfg(config.read_text("utf-8")).DATASET.NAME
    if name not in DATASET_REGISTRY.registered_names():
        return f"no loader {name}"
    folder = getattr(DATASET_REGISTRY.get(name), "dataset_dir", "")
    path = root.expanduser() / folder
    return "" if not isinstance(folder, str) or path.is_dir() else f'no folder "{path}"'


def unfinished(job: Job, problems: Problems) -> Job | None:
    """The job with those of its runs that are still to do; None if there are none.

    A folder with something else in it, which train.py would refuse, is added to ``problems``.
    """
    runs = []
    for run in job.runs:
        is_done = False
        with problems.noting(job=job):
            is_done = run_is_finished(run)
        runs += [] if is_done else [run]
    return replace(job, runs=tuple(runs)) if runs else None


def recorded_seconds(job: Job) -> float:
    """How long a finished job took, as its records say; 0 if they do not."""
    records = [read_results(run.folder / "results.json", "accuracy").record or {} for run in job.runs]
    phases = [phase for record in records for phase in record.get("phases", {}).values()]
    return sum(phase.get("seconds", 0.0) for phase in phases)


def run_is_finished(run: Run) -> bool:
    """Whether the run's folder holds its valid record, judged as ``train.py`` does.

    The weights that a training run left are read again, a second or two a run. An evaluation must have been
    of the weights that its training recorded. What evaluates a model that is still to be trained is not
    judged here.

    Raises:
        ValueError: the folder holds a run of something else, a damaged record or damaged weights.
    """
    if not (run.folder / "results.json").is_file():  # the usual case, without loading torch
        return False
    from runner.arguments import parse_args
    from runner.config import setup_cfg
    from runner.folder import is_finished, settle_precision

    args = parse_args(list(run.arguments))
    loaded = recorded_weights(Path(args.model_dir)) if args.model_dir else {}
    if loaded is None:
        return False
    cfg = setup_cfg(args)
    settle_precision(cfg, args)
    return is_finished(cfg, args, loaded)


def recorded_weights(model_dir: Path) -> dict[str, str] | None:
    """What a training run says of the weights that it left; None if it is not finished."""
    try:
        return json.loads((model_dir / "results.json").read_text("utf-8"))["saved"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None

"""What is there already: which data sets, and which jobs are finished. The only part that loads torch."""

import json
from dataclasses import replace
from pathlib import Path

from runner.jobs import Job, Run, dataset_config


def missing_reason(dataset: str, root: Path) -> str:
    """Why a data set cannot be used, in a few words; "" if its folder is there."""
    try:
        config = dataset_config(dataset)
    except ValueError:
        return "no loader"
    from dassl.data.datasets import DATASET_REGISTRY
    from trainers.common.config import import_all, parse_cfg

    import_all("datasets")
    name = parse_cfg(config.read_text("utf-8")).DATASET.NAME
    if name not in DATASET_REGISTRY.registered_names():
        return f"no loader {name}"
    folder = getattr(DATASET_REGISTRY.get(name), "dataset_dir", "")
    path = root.expanduser() / folder
    return "" if not isinstance(folder, str) or path.is_dir() else f'no folder "{path}"'


def unfinished(job: Job) -> Job | None:
    """The job with those of its runs that are still to do; None if there are none."""
    runs = tuple(run for run in job.runs if not run_is_finished(run))
    return replace(job, runs=runs) if runs else None


def run_is_finished(run: Run) -> bool:
    """Whether the run's folder holds its valid record, judged as ``train.py`` does.

    The weights that a training run left are read again, a second or two a run. An evaluation must have been
    of the weights that its training recorded. Whatever is called unfinished here is judged again by
    ``train.py``, which says what is wrong.
    """
    if not (run.folder / "results.json").is_file():  # the usual case, without loading torch
        return False
    import train
    from trainers.common.config import setup_cfg
    from trainers.common.run_folder import is_finished, settle_precision

    args = train.parse_args(list(run.arguments))
    loaded = (saved_weights(Path(args.model_dir)) or {}) if args.model_dir else {}
    try:
        cfg = setup_cfg(args)
        settle_precision(cfg, args)
        return is_finished(cfg, args, loaded)
    except (ValueError, OSError):
        return False


def saved_weights(model_dir: Path) -> dict[str, str] | None:
    """What a training run says of the weights that it left; None if it is not finished."""
    try:
        return json.loads((model_dir / "results.json").read_text("utf-8"))["saved"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None

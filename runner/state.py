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
    from yacs.config import CfgNode

    from dassl.data.datasets import DATASET_REGISTRY
    from trainers.common.config import import_all

    import_all("datasets")
    name = CfgNode.load_cfg(config.read_text("utf-8")).DATASET.NAME
    if name not in DATASET_REGISTRY.registered_names():
        return f"no loader {name}"
    folder = getattr(DATASET_REGISTRY.get(name), "dataset_dir", "")
    path = root.expanduser() / folder
    return "" if not isinstance(folder, str) or path.is_dir() else f'no folder "{path}"'


def unfinished(job: Job) -> Job | None:
    """The job with those of its runs that are still to do; None if there are none."""
    runs = tuple(run for run in job.runs if not is_finished(run))
    return replace(job, runs=runs) if runs else None


def is_finished(run: Run) -> bool:
    """Whether the run's folder holds its valid record: same settings, and still the same evaluated weights.

    ``train.py`` judges again, and more closely, whatever is called unfinished here.
    """
    if not (run.folder / "results.json").is_file():  # the usual case, without loading torch
        return False
    import train
    from trainers.common.config import setup_cfg
    from trainers.common.record import config_digest, read_record
    from trainers.common.run_folder import settle_precision

    args = train.parse_args(list(run.arguments))
    try:
        record = read_record(str(run.folder))
        cfg = setup_cfg(args)
        settle_precision(cfg, args)
        digest = config_digest(cfg)
    except (ValueError, OSError):
        return False
    if record is None or record.get("config_digest") != digest or record.get("eval_only") != args.eval_only:
        return False
    return record.get("loaded", {}) == (saved_weights(Path(args.model_dir)) if args.model_dir else {})


def saved_weights(model_dir: Path) -> dict[str, str] | None:
    """What a training run says of the weights that it left; None if it is not finished."""
    try:
        return json.loads((model_dir / "results.json").read_text("utf-8")).get("saved")
    except (OSError, ValueError):
        return None

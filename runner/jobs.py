"""The protocols of the papers as jobs: which runs of train.py, in which folders, in which order.

Commands and folders are those of the scripts in each method's folder below scripts/; a test compares them.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporting.published import ROWS
from runner import ROOT

# Keys that each job's own command sets, and where they come from.
OWN_KEYS = {
    "OUTPUT_DIR": "--output",
    "RESUME": "--output",
    "SEED": "--seeds",
    "TRAINER.NAME": "--trainers",
    "DATASET.NAME": "--datasets",
    "DATASET.ROOT": "--root",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.SUBSAMPLE_CLASSES": "the protocol: base2new takes base and new, the others all",
}

UNTRAINED = ("ZeroshotCLIP", "ZeroshotCLIP2")  # evaluated once: nothing is trained, no seed matters


@dataclass(frozen=True)
class Run:
    """One run of train.py: its folder and its arguments."""

    folder: Path
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One process, which does its runs one after another.

    Attributes:
        name: what the display calls it; also the name of its log.
        kind: jobs of one kind take about the same time.
        dataset: the file below configs/datasets.
        runs: what it does.
        after: name of the job that trains the model which this one evaluates; "" for none.
    """

    name: str
    kind: str
    dataset: str
    runs: tuple[Run, ...]
    after: str = ""

    @property
    def trainer(self) -> str:
        return self.name.split()[0]

    def alike(self, message: str) -> str:
        """A message without the job's own folders: other jobs' messages may be the same."""
        for run in self.runs:
            message = message.replace(str(run.folder), "…")
        return message

    def command(self) -> list[str]:
        """The whole command line; further runs follow ``--then``."""
        words = [sys.executable, str(ROOT / "train.py")]
        for number, run in enumerate(self.runs):
            words += ["--then"] * bool(number) + list(run.arguments)
        return words


@dataclass(frozen=True)
class Plan:
    """What reproduce.py was asked for.

    Attributes:
        trainers: names as for ``--trainer``, or ``all``.
        datasets: targets, files below configs/datasets.
        seeds: one run each.
        shots: images a class; several only in ``few_shot``.
        root: data root.
        output: everything lies below it, as the shell scripts lay it out.
        config: file below configs/trainers/<trainer>; "" for the protocol's own.
        source: where the models of ``cross_dataset`` and ``domain_generalization`` are trained.
        options: ``KEY VALUE …`` for every run.
    """

    protocol: str
    trainers: Sequence[str]
    datasets: Sequence[str]
    seeds: Sequence[int]
    shots: Sequence[int]
    root: Path
    output: Path
    config: str = ""
    source: str = "imagenet"
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Protocol:
    """A protocol: its data sets (the papers' rows), the numbers of shots, the trainers' configuration."""

    datasets: tuple[str, ...]
    shots: tuple[int, ...]
    config: str
    jobs: Callable[[Plan, str, int, int], Iterator[Job]]


def expand(plan: Plan) -> list[Job]:
    """The jobs of a plan, ordered so that one seed of everything is there before the next begins.

    Raises:
        ValueError: a trainer or data set has no configuration file.
    """
    jobs: dict[str, Job] = {}
    for number, seed in enumerate(plan.seeds):
        for trainer in named_trainers(plan):
            if trainer in UNTRAINED and number:
                continue
            for shots in plan.shots if trainer not in UNTRAINED else plan.shots[:1]:
                for job in PROTOCOLS[plan.protocol].jobs(plan, trainer, seed, shots):
                    jobs.setdefault(job.name, job)
    return list(jobs.values())


def named_trainers(plan: Plan) -> list[str]:
    """The plan's trainers; ``all`` are zero-shot CLIP and every other with configurations for the plan."""
    found = []
    for given in plan.trainers:
        found += configured_trainers(plan) if given == "all" else [given]
    return list(dict.fromkeys(found))


def configured_trainers(plan: Plan) -> list[str]:
    """Every trainer that has a configuration for each model of the plan; zero-shot CLIP first."""
    folders = {path.name for path in (ROOT / "configs" / "trainers").iterdir()} - {UNTRAINED[0]}
    names = [UNTRAINED[0], *sorted(folders, key=str.lower)]
    return [name for name in names if all(has_config(plan, name, model) for model in models(plan))]


def models(plan: Plan) -> Sequence[str]:
    """The data sets that models are trained on."""
    return [plan.source] if PROTOCOLS[plan.protocol].jobs is transfer else plan.datasets


def base2new(plan: Plan, trainer: str, seed: int, shots: int) -> Iterator[Job]:
    """Training on the base classes, then the novel ones in the same process, which saves its start."""
    for dataset in plan.datasets:
        config = config_name(plan, trainer, dataset)
        run = f"{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}"
        base = plan.output / "base2new" / "train_base" / run
        novel = plan.output / "base2new" / "test_new" / run
        train, test = ["--seed", str(seed)], evaluate(trainer, seed, base)
        if trainer in UNTRAINED:
            train = test
        runs = (
            make_run(plan, trainer, dataset, base, train, shots, "DATASET.SUBSAMPLE_CLASSES", "base"),
            make_run(plan, trainer, dataset, novel, test, shots, "DATASET.SUBSAMPLE_CLASSES", "new"),
        )
        yield Job(job_name(trainer, dataset, seed), f"{trainer} {dataset}", dataset, runs)


def transfer(plan: Plan, trainer: str, seed: int, shots: int) -> Iterator[Job]:
    """Training on all classes of the source, then an evaluation on each target."""
    experiment = f"{trainer}/{config_name(plan, trainer, plan.source)}_{shots}shots"
    model = plan.output / plan.source / experiment / f"seed{seed}"
    trained = job_name(trainer, plan.source, seed)
    flags = ["--seed", str(seed), *["--eval-only"] * (trainer in UNTRAINED)]
    run = make_run(plan, trainer, plan.source, model, flags, shots)
    yield Job(trained, f"{trainer} {plan.source}", plan.source, (run,))
    for dataset in plan.datasets:
        folder = plan.output / "evaluation" / experiment / dataset / f"seed{seed}"
        run = make_run(plan, trainer, dataset, folder, evaluate(trainer, seed, model), shots)
        after = "" if trainer in UNTRAINED else trained
        yield Job(
            f"{trainer} {plan.source}-to-{dataset} seed{seed}", f"{trainer} test", dataset, (run,), after
        )


def few_shot(plan: Plan, trainer: str, seed: int, shots: int) -> Iterator[Job]:
    """Training and evaluation on all classes; what is not trained has 0 shots."""
    shots = 0 if trainer in UNTRAINED else shots
    flags = ["--seed", str(seed), *["--eval-only"] * (trainer in UNTRAINED)]
    for dataset in plan.datasets:
        run = f"{dataset}/shots_{shots}/{trainer}/{config_name(plan, trainer, dataset)}/seed{seed}"
        folder = plan.output / "few_shot" / run
        runs = (make_run(plan, trainer, dataset, folder, flags, shots),)
        name = job_name(trainer, dataset, seed, f"{shots}-shot")
        yield Job(name, f"{trainer} {dataset} {shots}", dataset, runs)


PROTOCOLS = {
    "base2new": Protocol(ROWS["base2new"], (16,), "base2new", base2new),
    "cross_dataset": Protocol(ROWS["cross_dataset"], (16,), "x2d", transfer),
    "domain_generalization": Protocol(ROWS["domain_generalization"], (16,), "x2d", transfer),
    "few_shot": Protocol(ROWS["base2new"], (1, 2, 4, 8, 16), "base2new", few_shot),
    "demo": Protocol(("demo",), (16,), "demo", base2new),
    "calibrate": Protocol(ROWS["base2new"], (16,), "vit_b16", base2new),
}


def evaluate(trainer: str, seed: int, model: Path) -> list[str]:
    """Flags of an evaluation of the model in a run's folder."""
    flags = ["--seed", str(seed), "--eval-only"]
    return flags if trainer in UNTRAINED else [*flags, "--model-dir", str(model), "--load-epoch", "last"]


def make_run(
    plan: Plan, trainer: str, dataset: str, folder: Path, flags: list[str], shots: int, *options: str
) -> Run:
    """A run as the shell scripts' ``run_train`` calls it."""
    trained_on = plan.source if PROTOCOLS[plan.protocol].jobs is transfer else dataset
    config = config_file(trainer, config_name(plan, trainer, trained_on), trained_on)
    arguments = [
        *("--root", str(plan.root), "--trainer", trainer),
        *("--dataset-config-file", str(dataset_config(dataset)), "--config-file", str(config)),
        *("--output-dir", str(folder), *flags),
        *("DATASET.NUM_SHOTS", str(shots), *options, *own_options(plan, trainer)),
    ]
    return Run(folder, tuple(arguments))


def own_options(plan: Plan, trainer: str) -> list[str]:
    """The plan's ``KEY VALUE`` pairs without those that only other trainers of the plan know."""
    others = set().union(*(option_nodes(other) for other in named_trainers(plan))) - option_nodes(trainer)
    pairs = zip(plan.options[::2], plan.options[1::2], strict=True)
    theirs = tuple(f"TRAINER.{node}." for node in others)
    return [word for pair in pairs if not pair[0].startswith(theirs) for word in pair]


def option_nodes(trainer: str) -> set[str]:
    """Below which keys of TRAINER its configurations set options, and its own name."""
    found = {trainer}
    for path in config_folder(trainer).glob("*.yaml"):
        section = path.read_text("utf-8").partition("\nTRAINER:\n")[2]
        found |= set(re.findall(r"^  (\w+):", section, re.MULTILINE))
    return found


def job_name(*parts: object) -> str:
    """``HeBA caltech101 seed1``."""
    return " ".join(f"seed{part}" if isinstance(part, int) else str(part) for part in parts)


def config_folder(trainer: str) -> Path:
    """Where a trainer's configurations lie; both zero-shot methods share theirs."""
    return ROOT / "configs" / "trainers" / (UNTRAINED[0] if trainer in UNTRAINED else trainer)


def config_file(trainer: str, name: str, dataset: str) -> Path:
    """A configuration's file for models of a data set: ``<name>_<dataset>.yaml`` if there is one.

    Folders of runs bear the name alone, so that such a data set stands in one table with the others.
    """
    folder = config_folder(trainer)
    own = folder / f"{name}_{dataset}.yaml"
    return own if own.is_file() else folder / f"{name}.yaml"


def config_name(plan: Plan, trainer: str, dataset: str) -> str:
    """The trainer's configuration for models of a data set: the plan's, or the protocol's own.

    The demo's data sets need the demo's CLIP, so theirs is ``demo`` in every protocol.
    Zero-shot CLIP, which has none of the protocols' names, falls back to ``vit_b16``.

    Raises:
        ValueError: there is no such file.
    """
    name = wanted_config(plan, trainer, dataset)
    if not has_config(plan, trainer, dataset):
        folder = config_folder(trainer)
        there = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
        raise ValueError(
            f'trainer {trainer} has no configuration "{name}" (looked for "{folder / name}.yaml"; '
            f"there: {there}); name one with --config"
        )
    return name


def wanted_config(plan: Plan, trainer: str, dataset: str) -> str:
    """What ``config_name`` returns, whether it is there or not."""
    name = plan.config or ("demo" if dataset.startswith("demo") else PROTOCOLS[plan.protocol].config)
    if not plan.config and name != "demo" and (config_folder(trainer) / f"{plan.protocol}.yaml").is_file():
        name = plan.protocol  # a configuration of the protocol's name goes first: CoOp's few_shot
    if trainer in UNTRAINED and not (config_folder(trainer) / f"{name}.yaml").is_file():
        return "vit_b16"
    return name


def has_config(plan: Plan, trainer: str, dataset: str) -> bool:
    """Whether the trainer can be run on the data set."""
    return config_file(trainer, wanted_config(plan, trainer, dataset), dataset).is_file()


def dataset_config(dataset: str) -> Path:
    """The data set's YAML file.

    Raises:
        ValueError: there is none.
    """
    path = ROOT / "configs" / "datasets" / f"{dataset}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ValueError(f'--datasets {dataset}: no file "{path}"; there: {there}')
    return path

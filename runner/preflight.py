"""What a job would find wrong after ten seconds, found before any starts, by what the job itself calls."""

import contextlib
import copy
import io
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from adapt.method import build_model
from adapt.model import load_clip
from adapt.prompts import ClassPrompts
from clip import clip
from clip.download import is_local
from command_line import describe
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from runner.arguments import parse_args
from runner.config import check_named, setup_cfg
from runner.jobs import OWN_KEYS, Job, Run
from runner.problems import Problems
from trainers.class_texts import check_class_prompts
from trainers.clip_trainer import check_image_size

# Flags whose values differ between jobs that are checked alike.
OWN_FLAGS = ("--seed", "--output-dir", "--model-dir")


def check_jobs(
    jobs: Sequence[Job], problems: Problems, *, on_gpus: bool, fetch: bool, unread: Collection[str] = ()
) -> None:
    """Adds to ``problems`` what the jobs' runs would find, one look for all that differ in seed and folder.

    Not looked for are the pictures of a data set, which takes minutes on a slow disk: a job does it.

    Args:
        jobs: those that are to be done.
        problems: what is wrong.
        on_gpus: whether each gets a GPU.
        fetch: whether to download the backbone; it is done last, and only where nothing else is wrong.
        unread: data sets that are not there, or not yet; of their jobs all else is looked at.
    """
    checks = Checks(on_gpus)
    found: dict[tuple[str, ...], list[str]] = {}

    def look() -> None:
        for job in jobs:
            for run in job.runs:
                key = common_arguments(run)
                if key not in found:
                    found[key] = checks.look_at(run, job.dataset not in unread)
                for text in found[key]:
                    problems.add(text, job)

    look()
    if checks.absent and fetch and not problems:
        for name in checks.absent:
            with problems.noting(f"MODEL.BACKBONE.NAME {name}: "):
                clip.load_state_dict(name)
        if not problems:
            found.clear()
            look()


def common_arguments(run: Run) -> tuple[str, ...]:
    """A run's arguments without those that are its own."""
    words = list(run.arguments)
    for flag in OWN_FLAGS:
        if flag in words:
            place = words.index(flag)
            del words[place : place + 2]
    return tuple(words)


class Checks:
    """Looks at runs, each part once.

    Args:
        on_gpus: whether each job gets a GPU.

    Attributes:
        absent: named backbones that would have to be downloaded first; models on them are not looked at.
    """

    def __init__(self, on_gpus: bool) -> None:
        self.on_gpus = on_gpus
        self.absent: set[str] = set()
        self.loaders: dict[str, list[str]] = {}
        self.datasets: dict[str, tuple[Any, list[str]]] = {}
        self.backbones: dict[str, tuple[Any, list[str]]] = {}

    def look_at(self, run: Run, read_data: bool = True) -> list[str]:
        """Everything that is wrong with a run.

        A mistake hides what the job would do after it. Therefore the pairs KEY VALUE that it names are left
        out and the run is looked at again, until nothing new is found; what is then wrong with the values in
        their place is none of the user's mistakes.

        Args:
            run: what the job does.
            read_data: whether its data set is there to be read.
        """
        args = parse_args(list(run.arguments))
        pairs = list(zip(args.opts[::2], args.opts[1::2], strict=True))
        dropped: set[str] = set()
        found: dict[str, None] = {}
        while True:
            look = Look(with_options(args, [word for pair in pairs for word in pair]), read_data)
            look.has_backbone = not any(key.startswith("MODEL.BACKBONE.") for key in dropped)
            with quiet():
                self.look_once(look)
            found |= dict.fromkeys(text for text in look.found if not named_keys(text, dropped))
            found |= dict.fromkeys(look.last)
            given = {key for key, _ in pairs if key not in OWN_KEYS}
            wrong = {key for text in look.found for key in named_keys(text, given)}
            if not wrong:
                return list(found)
            dropped |= wrong
            for key in wrong:  # the last, which counts, of those that are given twice
                pairs.remove(next(pair for pair in reversed(pairs) if pair[0] == key))

    def look_once(self, look: "Look") -> None:
        """Looks for mistakes until one hides the others."""
        args, found = look.args, look.found
        cfg = None
        with noting(found):
            cfg = setup_cfg(args)
            check_named(cfg)
        if found:
            return
        kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        with noting(found):
            TrainerX.check_cfg(kind, cfg)
        if found:
            return
        if self.on_gpus and not cfg.USE_CUDA:
            found.append("--gpus names GPUs, but USE_CUDA is False; leave one of them out")
        method = None
        if hasattr(kind, "method_of"):
            with noting(found):
                method = kind.method_of(cfg)
        classnames = self.data(cfg, look) if look.read_data else None
        if method is not None:
            self.model(method, cfg, classnames, look)

    def data(self, cfg: Any, look: "Look") -> list[str] | None:
        """The classes of the run's data set, which is read once for all trainers, transforms and loaders."""
        key = str(cfg.DATASET)
        if key not in self.datasets:
            wrong: list[str] = []
            dataset = None
            with noting(wrong):
                dataset = build_dataset(cfg)
            self.datasets[key] = dataset, wrong
        dataset, wrong = self.datasets[key]
        look.found += wrong
        if dataset is None:
            return None
        key += f"{cfg.INPUT}{cfg.DATALOADER}{look.args.eval_only}"
        if key not in self.loaders:
            self.loaders[key] = wrong = []
            with noting(wrong):
                manager = KnownData(cfg, dataset)
                if not look.args.eval_only and hasattr(manager, "check_classes"):
                    manager.check_classes()
        look.found += self.loaders[key]
        with noting(look.found):
            build_evaluator(cfg, lab2cname=dict(enumerate(dataset.classnames)))
        return dataset.classnames

    def model(self, method: Any, cfg: Any, classnames: list[str] | None, look: "Look") -> None:
        """Prompts, backbone, adapters, optimiser: the model is built without memory for its weights."""
        prompts = ClassPrompts.tokenize([["a"], ["b"]])  # for those of a data set that cannot be read
        if classnames is not None:
            with noting(look.last):
                prompts = method.tokenize(method.prompts(classnames))
                check_class_prompts(cfg, prompts, classnames)
        adapters = stand_in = nn.Linear(1, 1)  # for those of a model that cannot be built
        backbone = self.backbone(cfg, look.last) if look.has_backbone else None
        if backbone is not None:
            backbone = copy.deepcopy(backbone)
            with noting(look.found):
                check_image_size(cfg, backbone)
            with noting(look.found):
                kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
                own = cfg.TRAINER[kind.options_name]
                adapters = build_model(kind.method, own, (), backbone, prompts=prompts).adapter_learner
            if adapters is not stand_in and not look.args.eval_only:
                with noting(look.last):
                    method.check_training()
        if adapters is not None:
            with noting(look.found):
                build_lr_scheduler(build_optimizer(adapters, cfg.OPTIM), cfg.OPTIM)

    def backbone(self, cfg: Any, found: list[str]) -> Any:
        """The run's CLIP without its weights, which are read once; None if it is wrong or not downloaded."""
        name = cfg.MODEL.BACKBONE.NAME
        if name in clip._MODELS and not is_local(clip._MODELS[name]):
            self.absent.add(name)
            return None
        key = str(cfg.MODEL.BACKBONE)
        if key not in self.backbones:
            wrong: list[str] = []
            model = None
            with noting(wrong):
                model = load_clip(name, cfg.MODEL.BACKBONE.get("QUICK_GELU")).to("meta")
            self.backbones[key] = model, wrong
        model, wrong = self.backbones[key]
        found += wrong
        return model


@dataclass
class Look:
    """One look at a run.

    Attributes:
        args: the run's.
        read_data: whether its data set is there to be read.
        has_backbone: whether the backbone is as the user has it; else the model is not looked at.
        found: mistakes that hide others.
        last: mistakes that hide none.
    """

    args: Any
    read_data: bool
    has_backbone: bool = True
    found: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)


class KnownData(DataManager):
    """The loaders of a data set that is read already; the original Dassl reads it again."""

    def __init__(self, cfg: Any, dataset: Any) -> None:
        self.known = dataset
        super().__init__(cfg)

    def read_dataset(self, cfg: Any) -> Any:
        return self.known


def named_keys(text: str, keys: Collection[str]) -> list[str]:
    """Which of the keys a message names."""
    return [key for key in keys if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", text)]


def with_options(args: Any, words: Sequence[str]) -> Any:
    """The arguments with other pairs KEY VALUE."""
    changed = copy.copy(args)
    changed.opts = list(words)
    return changed


@contextlib.contextmanager
def noting(found: list[str]) -> Iterator[None]:
    """Adds a user's mistake that is found inside the block to ``found``.

    What is none is left to the job, which shows where it comes from.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # also whatever a trainer that was dropped in does without data
        if text := describe(error):
            found.append(text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed or logged inside the block: the jobs say all of it again."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)

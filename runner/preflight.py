"""What a job would find wrong after ten seconds, found before any starts, by what the job itself calls."""

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import train
from adapt.method import build_model
from adapt.model import load_clip
from adapt.prompts import ClassPrompts
from clip import clip
from clip.download import is_local
from command_line import describe
from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from runner.config import check_named, setup_cfg
from runner.jobs import Job, Run
from runner.problems import Problems
from trainers.class_texts import check_class_prompts
from trainers.clip_trainer import check_image_size

# Flags whose values differ between jobs that are checked alike.
OWN_FLAGS = ("--seed", "--output-dir", "--model-dir")


def check_jobs(jobs: Sequence[Job], problems: Problems, *, on_gpus: bool, fetch: bool) -> None:
    """Adds to ``problems`` what the jobs' runs would find, one look for all that differ in seed and folder.

    Not looked for are the pictures of a data set, which takes minutes on a slow disk: a job does it.

    Args:
        jobs: those that are to be done.
        problems: what is wrong.
        on_gpus: whether each gets a GPU.
        fetch: whether to download the backbone; it is done last, and only where nothing else is wrong.
    """
    checks = Checks(on_gpus)
    found: dict[tuple[str, ...], list[str]] = {}

    def look() -> None:
        for job in jobs:
            for run in job.runs:
                key = common_arguments(run)
                if key not in found:
                    found[key] = checks.look_at(run)
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
        self.classnames: dict[str, tuple[list[str] | None, list[str]]] = {}
        self.backbones: dict[str, tuple[Any, list[str]]] = {}

    def look_at(self, run: Run) -> list[str]:
        """Everything that is wrong with a run."""
        found: list[str] = []
        args = train.parse_args(list(run.arguments))
        with quiet():
            cfg = self.configuration(args, found)
            if cfg is None:
                return found
            is_whole = not found
            kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
            with noting(found):
                TrainerX.check_cfg(kind, cfg)
            if self.on_gpus and not cfg.USE_CUDA:
                found.append("--gpus names GPUs, but USE_CUDA is False; leave one of them out")
            method = None
            if hasattr(kind, "method_of") and is_whole:
                with noting(found):
                    method = kind.method_of(cfg)
            classnames = self.data(cfg, found)
            if method is not None:
                self.model(method, cfg, classnames, found)
        return list(dict.fromkeys(found))

    def configuration(self, args: Any, found: list[str]) -> Any:
        """The run's configuration, without the pairs KEY VALUE that are wrong; None if more is."""
        whole: list[str] = []
        with noting(whole):
            cfg = setup_cfg(args)
            check_named(cfg)
            return cfg
        good: list[str] = []
        for pair in zip(args.opts[::2], args.opts[1::2], strict=False):
            before = len(found)
            with noting(found):
                setup_cfg(with_options(args, pair))
            good += pair if len(found) == before else ()
        if not found:  # no pair is wrong by itself
            found += whole
        with noting([]):
            return setup_cfg(with_options(args, good))
        return None

    def data(self, cfg: Any, found: list[str]) -> list[str] | None:
        """The classes of the run's data set, which is read once for all trainers, transforms and loaders."""
        key, loaders = str(cfg.DATASET), f"{cfg.INPUT}{cfg.DATALOADER}"
        if key not in self.classnames:
            wrong: list[str] = []
            names = None
            with noting(wrong):
                dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
                names = dataset.classnames
            self.classnames[key] = names, wrong
        names, wrong = self.classnames[key]
        found += wrong
        if names is not None and loaders not in self.loaders:
            self.loaders[loaders] = wrong = []
            with noting(wrong):
                DataManager(cfg)
        found += self.loaders.get(loaders, [])
        if names is not None:
            with noting(found):
                build_evaluator(cfg, lab2cname=dict(enumerate(names)))
        return names

    def model(self, method: Any, cfg: Any, classnames: list[str] | None, found: list[str]) -> None:
        """Prompts, backbone, adapters, optimiser: the model is built without memory for its weights."""
        prompts = ClassPrompts.tokenize([["a"], ["b"]])
        if classnames is not None:
            with noting(found):
                prompts = method.tokenize(method.prompts(classnames))
                check_class_prompts(cfg, prompts, classnames)
        backbone = self.backbone(cfg, found)
        if backbone is None:
            return
        backbone = copy.deepcopy(backbone)
        with noting(found):
            check_image_size(cfg, backbone)
        with noting(found):
            model = build_model(type(method), method.options, (), backbone, prompts=prompts)
            if model.adapter_learner is not None:
                build_lr_scheduler(build_optimizer(model.adapter_learner, cfg.OPTIM), cfg.OPTIM)

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

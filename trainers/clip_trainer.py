"""The trainer of all methods on a frozen CLIP: what Dassl and ``--trainer`` see of them."""

import logging
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from adapt.adapter_file import FILE_NAME, AdapterFile, load_strictly, read_adapter, write_adapter
from adapt.attach import check_vit
from adapt.compiling import compile_encoders
from adapt.method import Method, build_model
from adapt.model import adapter_weights, load_clip
from adapt.precision import Precision
from adapt.prompts import prompts_digest
from adapt.text_prefix import add_text_prefix, remove_text_prefix
from clip import weights_digest
from clip.model import CLIP
from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights
from fileio import describe_mismatch, labelled_files_digest
from trainers.class_texts import check_class_prompts, class_texts

logger = logging.getLogger(__name__)


def device_of(cfg: CfgNode) -> torch.device:
    """The device of a run, chosen as Dassl's trainers choose it."""
    return torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")


class ClipTrainer(TrainerX):
    """Trains and evaluates a method; a subclass names it and is registered with Dassl.

    The method's options stand under ``TRAINER.<options_name>``; ``PREC`` among them.

    Attributes:
        method: what is added to CLIP.
        model: ``CustomCLIP``; its ``method`` has the run's options.
        backbone_sha256: digest of CLIP's weights, where it is known.
        weights_epoch: epoch of the weights that were loaded or trained last.
        results: what the last ``test`` found; accuracy in percent and, with this project's Dassl,
            error_rate, macro_f1, the counts behind them and those of each class.
    """

    method: type[Method]
    options_name: str
    backbone_sha256: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.options_name = cls.method.options_name

    @classmethod
    def method_of(cls, cfg: CfgNode) -> Method:
        """The method with a run's options: no data set, no model, no optimiser.

        Raises:
            ValueError: the configuration has a value that the method cannot have.
        """
        key = f"TRAINER.{cls.options_name}"
        if cls.method.adapts_vit:  # known by the name, before anything is downloaded
            check_vit(not re.fullmatch(r"RN\d+(x\d+)?", cfg.MODEL.BACKBONE.NAME), key)
        if cfg.DATALOADER.K_TRANSFORMS != 1 or cfg.INPUT.NO_TRANSFORM:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS} and INPUT.NO_TRANSFORM "
                f"{cfg.INPUT.NO_TRANSFORM}, but {cls.options_name} takes one tensor an image; set them to 1 "
                "and False"
            )
        if cfg.MODEL.get("COMPILE") and not cls.method.compilable:
            raise ValueError(
                f"MODEL.COMPILE is True, but {cls.__name__} draws a scale of its own each step, for which "
                "compiled blocks would be made anew; set it to False"
            )
        return cls.method.from_options(cfg.TRAINER[cls.options_name], class_texts(cfg))

    def check_cfg(self, cfg: CfgNode) -> None:
        for level, text in self.method_of(cfg).remarks():
            logger.log(level, text)

    @property
    def options(self) -> CfgNode:
        """The method's options."""
        return self.cfg.TRAINER[self.options_name]

    @property
    def precision(self) -> Precision:
        """The precision of the run."""
        return self.model.method.precision

    @property
    def class_prompts(self) -> list[list[str]]:
        """The prompts of each class."""
        return self.model.prompts.texts

    def build_model(self) -> None:
        """Builds the model, puts it on its device and gives it an optimiser."""
        cfg, classnames = self.cfg, self.dm.dataset.classnames
        name, texts = cfg.MODEL.BACKBONE.NAME, class_texts(cfg)
        prompts = self.method_of(cfg).prompts(classnames)  # before the backbone is downloaded
        logger.info("Loading CLIP (backbone: %s)", name)
        clip_model = load_clip(name, cfg.MODEL.BACKBONE.get("QUICK_GELU"))
        self.backbone_sha256 = weights_digest(name)
        check_image_size(cfg, clip_model)
        model = build_model(self.method, self.options, classnames, clip_model, texts=texts, prompts=prompts)
        check_class_prompts(cfg, model.prompts, classnames)
        self.model = model.to(self.device)
        if cfg.MODEL.get("COMPILE"):
            compile_encoders(self.model.clip)
        self.scaler = self.precision.grad_scaler(self.device)
        self.num_trainable = sum(weight.numel() for weight in adapter_weights(self.model).values())
        logger.info("Number of trainable parameters: %d", self.num_trainable)
        learner = self.model.adapter_learner
        if learner is None:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(learner, cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.method.folder, learner, self.optim, self.sched)

    @cached_property
    def digests(self) -> dict[str, str | None]:
        """Digests of what the run is made of; none of it changes while it runs."""
        return {
            "backbone_sha256": self.backbone_sha256,
            "prompts_sha256": prompts_digest(self.class_prompts),
            "pictures_sha256": labelled_files_digest(self.dm.dataset.train_x, self.cfg.DATASET.ROOT),
        }

    def extra_state(self) -> dict[str, Any]:
        return dict(self.digests)

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Refuses to continue with another backbone, other prompts or other training pictures."""
        where = self.cfg.RESUME or self.output_dir
        for key, what in (
            ("backbone_sha256", f'weights so far than backbone "{self.cfg.MODEL.BACKBONE.NAME}" has'),
            ("prompts_sha256", "prompts so far than the classes have now"),
            ("pictures_sha256", "training pictures so far than the data folder and SEED give now"),
        ):
            if digests := describe_mismatch(state.get(key), self.digests[key]):
                raise ValueError(
                    f'"{where}" was trained on other {what} ({digests}); put the former back to continue, or '
                    "choose another output folder"
                )

    def before_train(self) -> None:
        model = self.model
        model.method.check_training()
        with self.precision.autocast(self.device):
            model.method.before_training(model)
        super().before_train()
        with self.precision.autocast(self.device):
            add_text_prefix(model.clip, model.prompts, self.cfg.TRAIN.TEXT_CACHE_MB)

    def after_train(self) -> None:
        """Evaluates the final weights, and leaves them as a file of their own beside Dassl's."""
        remove_text_prefix(self.model.clip)  # evaluation needs the memory and runs each prompt once
        self.weights_epoch = self.max_epoch  # load_model corrects it where the best model is deployed
        super().after_train()
        cfg = self.cfg
        others = [name for name, node in cfg.TRAINER.items() if isinstance(node, CfgNode)]
        others.remove(self.options_name)
        write_adapter(
            AdapterFile(
                path=Path(self.output_dir) / self.method.folder / FILE_NAME,
                tensors=self.model.adapter_learner.state_dict(),
                trainer=cfg.TRAINER.NAME,
                dataset=cfg.DATASET.NAME,
                backbone=cfg.MODEL.BACKBONE.NAME,
                backbone_sha256=self.backbone_sha256,
                config=config_text(cfg, others),
                classnames=self.dm.dataset.classnames,
                prompts=self.class_prompts,
                epoch=self.weights_epoch,
            )
        )

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor | int]:
        """One training step; returns what its log line shows."""
        method = self.model.method
        inputs = method.batch(self.model, batch["img"], batch["label"], self.device)
        with self.precision.autocast(self.device):
            loss, shown = method.loss(self.model, inputs)
        self.step(loss)
        return {"loss": loss.detach(), **shown}

    def step(self, loss: torch.Tensor) -> None:
        """One optimiser step, loss scaled in float16; the schedule moves after an epoch's last batch."""
        self.detect_anomaly(loss)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        self.optim.zero_grad()  # now, so that gradients take no memory during the next forward pass
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        with self.precision.autocast(self.device):
            return self.model(input)

    def test(self, split: str | None = None) -> float:
        """Evaluates on ``split`` with class features computed once; returns the accuracy in percent.

        Where the method is evaluated in several states, the record has the last one's results, and under
        ``other`` those before.
        """
        self.model.eval()
        novel = self.cfg.DATASET.SUBSAMPLE_CLASSES == "new"
        found: dict[str, dict[str, Any]] = {}
        for name, notes in self.model.method.evaluations(self.model, novel):
            with self.precision.autocast(self.device), self.model.keep_text_features():
                accuracy = super().test(split)
            found[name] = evaluation(self.evaluator, accuracy, self.lab2cname) | notes
        *others, last = found
        self.results = found[last] | ({"other": {name: found[name] for name in others}} if others else {})
        return accuracy

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Loads ``<directory>/<name>/model.pth.tar-<epoch>`` (None: model-best), every tensor or none.

        Raises:
            FileNotFoundError: no such file; the message lists the files that are there.
            ValueError: tensors are missing, unexpected or misshapen; the message names them. Or they belong
                to single classes, and the classes are others.
        """
        if not directory:
            logger.info("Note that load_model() is skipped as no pretrained model is given")
            return
        self.check_classes(directory)
        for name in self.get_model_names():
            folder = Path(directory) / name
            path = folder / ("model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
            if not path.is_file():
                found = ", ".join(sorted(file.name for file in folder.glob("model*.pth.tar*"))) or "nothing"
                raise FileNotFoundError(
                    f'no model at "{path}" (found there: {found}); train first or change the epoch'
                )
            checkpoint = load_checkpoint(str(path))
            tensors = self.model.method.own_tensors(checkpoint["state_dict"])
            load_strictly(self._models[name], tensors, path)
            self.weights_epoch = checkpoint["epoch"]
            logger.info('Loading weights to %s from "%s" (epoch = %s)', name, path, checkpoint["epoch"])

    def check_classes(self, directory: str) -> None:
        """Raises ValueError if the weights in a run's folder belong to single classes, other than these."""
        exported = Path(directory) / self.method.folder / FILE_NAME
        if not self.model.method.class_specific or directory == self.output_dir or not exported.is_file():
            return
        theirs, ours = read_adapter(exported, weights=False).classnames, self.dm.dataset.classnames
        if theirs != ours:
            raise ValueError(
                f'the model of "{directory}" learned words for each of its {len(theirs)} classes '
                f"({theirs[0]}, …), so it has none for these {len(ours)} ({ours[0]}, …); evaluate its "
                f"own classes, or train with {self.model.method.key}.CSC False"
            )


def evaluation(
    evaluator: Any, accuracy: float | None = None, classnames: dict[int, str] | None = None
) -> dict[str, Any]:
    """What an evaluator found, in percent, with counts; the original Dassl's tells the accuracy alone."""
    results = dict(getattr(evaluator, "results", {"accuracy": accuracy}))
    results |= {name: getattr(evaluator, name) for name in ("correct", "total") if hasattr(evaluator, name)}
    per_class = getattr(evaluator, "per_class", None)
    if isinstance(per_class, dict):
        results["per_class"] = [
            {"label": label, "classname": (classnames or {}).get(label, ""), "correct": hits, "total": total}
            for label, (hits, total) in per_class.items()
        ]
    return results


def config_text(cfg: CfgNode, others: Iterable[str]) -> str:
    """The configuration as YAML for ``--config-file``: the same run again, wherever ``--output-dir`` says.

    Args:
        cfg: the configuration.
        others: nodes below TRAINER of other methods, which are left out, so the file does not need their
            trainer files.
    """
    own = cfg.clone()
    own.defrost()
    for name in others:
        del own.TRAINER[name]
    del own["OUTPUT_DIR"], own["RESUME"]
    return "# python train.py --output-dir <folder> --config-file <this file>\n" + own.dump()


def check_image_size(cfg: CfgNode, clip_model: CLIP) -> None:
    """The loaders' image size must be the backbone's."""
    size = clip_model.visual.input_resolution
    if tuple(cfg.INPUT.SIZE) != (size, size):
        raise ValueError(
            f'INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but backbone "{cfg.MODEL.BACKBONE.NAME}" takes '
            f'{size}x{size} images; set INPUT.SIZE "({size}, {size})" or leave it out'
        )

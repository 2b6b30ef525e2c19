"""The part of a trainer that all methods on a frozen CLIP share: building, evaluating, loading."""

import logging
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import unlearned_words
from clip.layout import PackedText, send
from clip.model import CLIP
from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights
from trainers.common.adapters import adapter_weights, check_vit, freeze_backbone
from trainers.common.compiling import compile_encoders
from trainers.common.custom_clip import CustomCLIP, load_clip
from trainers.common.export import FILE_NAME as EXPORT_NAME
from trainers.common.export import write_adapter
from trainers.common.precision import Precision, decide, device_of, get_precision
from trainers.common.prompts import ClassPrompts, check_distinct, dataset_template, template_prompts
from trainers.common.provenance import backbone_digest, describe_data, describe_mismatch, prompts_digest
from trainers.common.record import evaluation
from trainers.common.sampling import sample_classes
from trainers.common.text_prefix import keep_text_prefix

logger = logging.getLogger(__name__)


class ClipTrainer(TrainerX):
    """A method is a subclass that says its prompts, its adapters and, if it is special, its training step.

    Its options stand under ``TRAINER.<options_name>``; ``PREC`` among them.

    Attributes:
        model: ``CustomCLIP``.
        texts: the prompts of each class.
        backbone_sha256: digest of CLIP's weights, where it is known.
        weights_epoch: epoch of the weights that were loaded or trained last.
        results: what the last ``test`` found; accuracy in percent and, with this project's Dassl,
            error_rate, macro_f1, the counts behind them and those of each class.
    """

    adapters_name = "adapter_learner"  # folder of the checkpoints
    model_class = CustomCLIP
    options_name = ""  # below TRAINER; "": as the class is called
    published_precision = "amp"  # what PREC auto is on a GPU
    adapts_vit = False  # the image encoder must be a vision transformer
    backbone_sha256: str | None = None

    def check_cfg(self, cfg: CfgNode) -> None:
        name = type(self).node()
        self.options = cfg.TRAINER[name]
        self.precision = self.precision_of(cfg)
        if self.adapts_vit:  # known by the name, before anything is downloaded
            check_vit(not re.fullmatch(r"RN\d+(x\d+)?", cfg.MODEL.BACKBONE.NAME), f"TRAINER.{name}")
        if cfg.DATALOADER.K_TRANSFORMS != 1 or cfg.INPUT.NO_TRANSFORM:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS} and INPUT.NO_TRANSFORM "
                f"{cfg.INPUT.NO_TRANSFORM}, but {name} takes one tensor an image; set them to 1 and False"
            )

    @classmethod
    def node(cls) -> str:
        """The name below TRAINER where the options stand."""
        return cls.options_name or cls.__name__

    @classmethod
    def precision_of(cls, cfg: CfgNode) -> Precision:
        """The precision that the method's options ask for, on the run's device."""
        name = decide(cfg.TRAINER[cls.node()].PREC, cls.published_precision, device_of(cfg))
        return get_precision(name, f"TRAINER.{cls.node()}.PREC")

    @classmethod
    def template(cls, cfg: CfgNode) -> str:
        """The prompt of a class that nothing else is known of; ``{}`` stands for its name."""
        return dataset_template(cfg)

    def class_prompts(self, classnames: list[str]) -> list[list[str]]:
        """The prompts of each class; unless a method has others, ``template`` alone."""
        return template_prompts(classnames, (self.template(self.cfg),))

    def tokenize(self, prompts: list[list[str]]) -> ClassPrompts:
        """The prompts of each class as tokens."""
        return ClassPrompts.tokenize(prompts)

    def build_adapters(self, clip_model: CLIP) -> nn.Module | None:
        """Attaches the method's adapters to CLIP; returns the module that holds them, or None for none."""
        raise NotImplementedError

    def build_model(self) -> None:
        model = self.build_clip(self.class_prompts(self.dm.dataset.classnames))
        check_distinct(model.prompts, self.dm.dataset.classnames, self.cfg.DATASET)
        self.assemble(model)

    @classmethod
    def without_data(cls, cfg: CfgNode) -> "ClipTrainer":
        """The method alone, with its options checked: no data set, no model, no optimiser."""
        method = cls.__new__(cls)
        method.cfg = cfg
        method.check_cfg(cfg)
        return method

    def assemble(self, model: CustomCLIP) -> None:
        """Puts the model on its device and gives it an optimiser."""
        cfg = self.cfg
        self.model = model.to(self.device)
        if cfg.MODEL.get("COMPILE"):
            compile_encoders(self.model.clip)
        self.scaler = self.precision.grad_scaler(self.device)
        self.num_trainable = sum(weight.numel() for _, weight in adapter_weights(self.model))
        logger.info("Number of trainable parameters: %d", self.num_trainable)
        adapters = self.model.adapter_learner
        if adapters is None:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(adapters, cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(adapters, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.adapters_name, adapters, self.optim, self.sched)

    def build_clip(self, prompts: list[list[str]]) -> CustomCLIP:
        """CLIP with the method's adapters for classes of these prompts; needs no data set."""
        cfg, self.texts = self.cfg, prompts
        logger.info("Loading CLIP (backbone: %s)", cfg.MODEL.BACKBONE.NAME)
        clip_model = self.precision.store(load_clip(cfg))
        self.backbone_sha256 = backbone_digest(cfg.MODEL.BACKBONE.NAME)
        check_image_size(cfg, clip_model)
        tokens = self.tokenize(prompts)
        warn_of_unlearned_words(clip_model, tokens)
        return self.attach(clip_model, tokens)

    def attach(self, clip_model: CLIP, prompts: ClassPrompts) -> CustomCLIP:
        """CLIP, frozen, with the method's adapters."""
        logger.info("Building custom CLIP")
        model = self.model_class(clip_model, prompts, self.build_adapters(clip_model))
        logger.info("Turning off gradients in both the image and the text encoder")
        freeze_backbone(model)
        return model

    @cached_property
    def digests(self) -> dict[str, str | None]:
        """Digests of what the run is made of; none of it changes while it runs."""
        data = describe_data(self.dm.dataset, self.cfg.DATASET.ROOT)
        return {
            "backbone_sha256": self.backbone_sha256,
            "prompts_sha256": prompts_digest(self.texts),
            "pictures_sha256": data["train"]["sha256"],
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

    def check_training(self) -> None:
        """Raises ValueError if the method's options leave nothing to train; the model is built."""

    def before_train(self) -> None:
        self.check_training()
        super().before_train()
        with self.precision.autocast(self.device):
            keep_text_prefix(self.model, self.cfg.TRAIN.TEXT_CACHE_MB)

    def after_train(self) -> None:
        """Evaluates the final weights, and leaves them as a file of their own beside Dassl's."""
        self.model.prompts.prefix = None  # evaluation needs the memory and runs each prompt once
        self.weights_epoch = self.max_epoch  # load_model corrects it where the best model is deployed
        super().after_train()
        write_adapter(
            Path(self.output_dir) / self.adapters_name / EXPORT_NAME,
            self.model.adapter_learner.state_dict(),
            self.cfg,
            self.dm.dataset.classnames,
            self.texts,
            self.weights_epoch,
        )

    def step_inputs(
        self, batch: dict, ratio: int = -1
    ) -> tuple[torch.Tensor, torch.Tensor | PackedText, torch.Tensor]:
        """Images, one random prompt a class, and targets of a step; classes are chosen on the host.

        Args:
            batch: images ``img`` ``(B, 3, H, W)`` and labels ``label`` ``(B,)`` from the loader.
            ratio: see ``sample_classes``.

        Returns:
            ``(B, 3, H, W)`` images, C' prompts, ``(B,)`` targets among them; all on the trainer's device.
        """
        classes, target = sample_classes(batch["label"], self.num_classes, ratio)
        tokens = self.model.prompts.draw(classes)
        return send(batch["img"], self.device), send(tokens, self.device), send(target, self.device)

    def forward_backward(self, batch: dict) -> dict[str, torch.Tensor | int]:
        """One step of plain cross entropy over all classes; methods with another loss replace it."""
        image, tokens, target = self.step_inputs(batch)
        with self.precision.autocast(self.device):
            logits = self.model(image, tokens)
            loss = F.cross_entropy(logits, target)
        self.step(loss)
        return {"loss": loss.detach(), "acc": accuracy(logits, target)}

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
        """Evaluates on ``split`` with class features computed once; returns the accuracy in percent."""
        self.model.eval()
        with self.precision.autocast(self.device), self.model.keep_text_features():
            accuracy = super().test(split)
        self.results = evaluation(self.evaluator, accuracy, self.lab2cname)
        return accuracy

    def own_tensors(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The method's tensors by their names here, of a checkpoint that published code may have written."""
        return state_dict

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Loads ``<directory>/<name>/model.pth.tar-<epoch>`` (None: model-best), every tensor or none.

        Raises:
            FileNotFoundError: no such file; the message lists the files that are there.
            ValueError: tensors are missing, unexpected or misshapen; the message names them.
        """
        if not directory:
            logger.info("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            folder = Path(directory) / name
            path = folder / ("model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
            if not path.is_file():
                found = ", ".join(sorted(file.name for file in folder.glob("model*.pth.tar*"))) or "nothing"
                raise FileNotFoundError(
                    f'no model at "{path}" (found there: {found}); train first or change the epoch'
                )
            checkpoint = load_checkpoint(str(path))
            load_strictly(self._models[name], self.own_tensors(checkpoint["state_dict"]), path)
            self.weights_epoch = checkpoint["epoch"]
            logger.info('Loading weights to %s from "%s" (epoch = %s)', name, path, checkpoint["epoch"])


def accuracy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Percentage of ``(B, C)`` logits that are right about ``(B,)`` targets; stays on the device."""
    return (logits.argmax(dim=1) == target).float().mean() * 100


# Buffers that published code stores among the weights; they follow from the classes, not from training.
DERIVED = ("tk_prompts", "text_features_for_inference", "token_prefix", "token_suffix")


def load_strictly(module: nn.Module, state_dict: dict[str, torch.Tensor], source: Path) -> None:
    """Loads a state dict whose tensors must all be there, be expected, have the right shape and be finite."""
    expected = module.state_dict()
    given = {name: tensor for name, tensor in state_dict.items() if name not in DERIVED}
    problems = [f"missing {name}" for name in expected if name not in given]
    problems += [f"unexpected {name}" for name in given if name not in expected]
    problems += [
        f"{name} has shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems += [
        f"{name} is of {tensor.dtype}"
        for name, tensor in given.items()
        if name in expected and expected[name].is_floating_point() and not tensor.is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise ValueError(
            f'"{source}" does not fit this configuration: {shown}; '
            "use the backbone and the adapter settings that it was trained with"
        )
    if bad := [name for name, tensor in given.items() if not tensor.isfinite().all()]:
        raise ValueError(
            f'"{source}" holds NaN or infinity, in {len(bad)} of its tensors, the first is {bad[0]}; '
            "train again"
        )
    module.load_state_dict(given)


def warn_of_unlearned_words(clip_model: CLIP, prompts: ClassPrompts) -> None:
    """Says which words of the prompts this CLIP has never seen, as far as that is known: of the demo's."""
    known = prompts.tokens[prompts.tokens >= 0]  # the others are learned here
    words = unlearned_words(clip_model, known)
    if words:
        logger.warning(
            "This CLIP has never seen %d words or pieces of words of the prompts (%s%s), they mean nothing "
            "to it: expect no more than chance without training, and on novel classes with it",
            len(words),
            ", ".join(words[:8]),
            ", …" if len(words) > 8 else "",
        )


def check_image_size(cfg: CfgNode, clip_model: CLIP) -> None:
    """The loaders' image size must be the backbone's."""
    size = clip_model.visual.input_resolution
    if tuple(cfg.INPUT.SIZE) != (size, size):
        raise ValueError(
            f'INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but backbone "{cfg.MODEL.BACKBONE.NAME}" takes '
            f'{size}x{size} images; set INPUT.SIZE "({size}, {size})" or leave it out'
        )

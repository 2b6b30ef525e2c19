"""What a method is, and the one function that builds CLIP with it.

    model = build_model(HeBA.method, options, ["tabby cat", "dog"], "ViT-B/16")
    model.method.before_training(model)
    batch = model.method.batch(model, images, labels, device)
    loss, shown = model.method.loss(model, batch)

Symbols: B images, C classes, C' classes of a training step.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapt.model import CustomCLIP, freeze_backbone, load_clip
from adapt.options import check_choices, check_numbers, check_type
from adapt.precision import Precision, decide, get_precision
from adapt.prompts import NO_DATA_SET, ClassPrompts, ClassTexts, check_distinct, template_prompts
from adapt.sampling import sample_classes
from clip import unlearned_words
from clip.layout import PackedText, send
from clip.model import CLIP

logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What a training step learns from.

    Attributes:
        image: ``(B, 3, H, W)``.
        tokens: one prompt for each of C' classes, as the text encoder takes them.
        target: ``(B,)`` positions of the images' classes among these.
    """

    image: torch.Tensor
    tokens: torch.Tensor | PackedText
    target: torch.Tensor


class Method:
    """What a method adds to a frozen CLIP, and what it learns from; needs no trainer and no configuration.

    Args:
        options: has every option as an attribute, ``PREC`` among them; ``from_options`` completes them.
        texts: what a data set brings to the prompts.

    Attributes:
        precision: that ``options.PREC`` asks for; ``auto`` is ``published_precision`` where there is a GPU.

    Raises:
        ValueError: an option has a value that it cannot have; names its key.
    """

    options_name = ""  # below TRAINER, where a run's configuration has the options
    folder = "adapter_learner"  # of the checkpoints
    published_precision = "amp"  # what PREC auto is on a GPU
    adapts_vit = False  # the image encoder must be a vision transformer
    compilable = True  # False: MODEL.COMPILE would compile anew each step
    scale_key = ""  # option that is the adapters' scale in training
    negatives = -1  # negative classes for each class of a batch, see sample_classes; -1: all classes
    model_class: type[CustomCLIP] = CustomCLIP  # a subclass for another forward pass
    class_specific = False  # weights belong to single classes: others cannot be evaluated
    limits: Mapping[str, tuple[float, float]] = {}  # least and most value of options that are numbers
    choices: Mapping[str, Sequence[Any]] = {}  # the values that an option can have

    _variants: list[type["Method"]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._variants = []

    @staticmethod
    def extend_cfg(cfg: Any) -> None:
        """Declares the options and defaults below ``cfg.TRAINER``: its file's function of that name."""
        raise NotImplementedError

    @classmethod
    def variant(cls, kind: type["Method"]) -> type["Method"]:
        """Registers a subclass as an ablation, used where one of its own ``choices`` is not the first."""
        cls._variants.append(kind)
        return kind

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The options by name with their defaults, those of registered variants too."""
        cfg = SimpleNamespace(TRAINER=SimpleNamespace())
        for kind in (cls, *cls._variants):
            kind.extend_cfg(cfg)
        return dict(getattr(cfg.TRAINER, cls.options_name))

    @classmethod
    def from_options(cls, options: Any, texts: ClassTexts = NO_DATA_SET) -> "Method":
        """The method with these options, or the variant of it that they ask for.

        Args:
            options: see ``build_model``.
            texts: what a data set brings to the prompts.

        Raises:
            ValueError: an option is unknown, or has a value that it cannot have; names its key.
        """
        given = dict(options if isinstance(options, Mapping) else vars(options))
        complete = cls.defaults()
        key = f"TRAINER.{cls.options_name}"
        if unknown := sorted(given.keys() - complete.keys()):
            raise ValueError(
                f"{key}.{unknown[0]} is unknown; known there: {', '.join(sorted(complete))} (options of an "
                "ablation are known once its file in trainers/ is imported)"
            )
        for name, value in given.items():
            check_type(value, complete[name], f"{key}.{name}")
        complete |= given
        for kind in cls._variants:
            own = kind.choices.keys() - cls.choices.keys()
            if any(complete[name] != kind.choices[name][0] for name in own):
                return kind(SimpleNamespace(**complete), texts)
        return cls(SimpleNamespace(**complete), texts)

    def __init__(self, options: Any, texts: ClassTexts = NO_DATA_SET) -> None:
        self.options = options
        self.texts = texts
        self.precision: Precision = get_precision(
            decide(options.PREC, self.published_precision, torch.cuda.is_available()), f"{self.key}.PREC"
        )
        self.check_options()

    @property
    def key(self) -> str:
        """Where a run's configuration has the options, for messages."""
        return f"TRAINER.{self.options_name}"

    def check_options(self) -> None:
        """Raises ValueError where an option has a value that it cannot have; names its key."""
        check_numbers(self.options, self.key, self.limits)
        check_choices(self.options, self.key, self.choices)

    def template(self) -> str:
        """The prompt of a class that nothing else is known of, with ``{}`` for its name."""
        return self.texts.template

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        """The prompts of each class; unless a method has others, ``template`` alone."""
        return template_prompts(classnames, (self.template(),))

    def remarks(self) -> list[tuple[int, str]]:
        """Levels and texts of what a run's log says of the options, such as one that is not used."""
        return []

    def tokenize(self, prompts: Sequence[Sequence[str]]) -> ClassPrompts:
        """The prompts of each class as tokens."""
        return ClassPrompts.tokenize(prompts)

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> nn.Module | None:
        """Attaches the adapters to CLIP and returns them.

        Args:
            clip_model: gets them.
            prompts: of the classes; a method that looks across tokens sets their ``lookahead``.

        Returns:
            The module that holds every trained weight by its published name; None: there is none.
        """
        raise NotImplementedError

    def check_training(self) -> None:
        """Raises ValueError if the options leave nothing to train."""
        if self.scale_key and getattr(self.options, self.scale_key) == 0:
            raise ValueError(
                f"{self.key}.{self.scale_key} is 0, so there is nothing to train; set it above 0"
            )

    def before_training(self, model: CustomCLIP) -> None:
        """Prepares the training of a model that is on its device, in the autocast of the steps."""

    def batch(
        self, model: CustomCLIP, image: torch.Tensor, label: torch.Tensor, device: torch.device
    ) -> Batch:
        """What a step learns from: images, a random prompt for each of its classes, targets; on the device.

        Args:
            model: has the prompts.
            image: ``(B, 3, H, W)``.
            label: ``(B,)`` labels on the host, where the classes are chosen.
            device: of the model.
        """
        classes, target = sample_classes(label, len(model.prompts.counts), self.negatives)
        return Batch(send(image, device), send(model.prompts.draw(classes), device), send(target, device))

    def loss(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | int]]:
        """What a step minimises, and what its log line shows beside it.

        Call it in the steps' autocast, after ``before_training``. Unless a method has another: cross entropy
        over the classes of the step.
        """
        logits = model(batch.image, batch.tokens)
        return F.cross_entropy(logits, batch.target), {"acc": accuracy(logits, batch.target)}

    def evaluations(self, model: CustomCLIP, novel: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Brings the model into each state that is evaluated, the one that counts last.

        Args:
            model: in evaluation mode.
            novel: whether the classes are the novel ones.

        Yields:
            Name of the state, and what the record says of it.
        """
        yield "", {}

    def own_tensors(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The method's tensors by their names here, of a checkpoint that published code may have written."""
        return state_dict


def build_model(
    method: type[Method],
    options: Any,
    classnames: Sequence[str],
    backbone: str | Path | CLIP,
    *,
    texts: ClassTexts = NO_DATA_SET,
    prompts: Sequence[Sequence[str]] | ClassPrompts | None = None,
) -> CustomCLIP:
    """CLIP, frozen, with a method's adapters for these classes; on the CPU.

    Args:
        method: what to add, ``HeBA.method`` for example.
        options: any object with the method's options as attributes, or a mapping; options that are not given
            have their defaults.
        classnames: names of the classes.
        backbone: name of a CLIP (``ViT-B/16``) or path of its weights; or a CLIP, which is changed.
        texts: what a data set brings to the prompts.
        prompts: the prompts of each class; None: those that the method makes of the names, which must tell
            the classes apart.

    Returns:
        The model; its ``method`` has the loss.

    Raises:
        ValueError: an option, the prompts or the backbone do not fit; the message says which.
        FileNotFoundError: there are no descriptions of the classes, or no such weights.
    """
    instance = method.from_options(options, texts)
    if isinstance(classnames, str):
        raise ValueError(f'classnames is the text "{classnames}"; give a list of names')
    if prompts is None:
        prompts = instance.tokenize(check_groups(instance.prompts(classnames)))
        check_distinct(prompts, classnames, "classnames")
    elif not isinstance(prompts, ClassPrompts):
        prompts = instance.tokenize(check_groups(prompts))
    if isinstance(backbone, CLIP) and hasattr(backbone, "adapted_by"):
        raise ValueError(
            f"this CLIP has the adapters of {backbone.adapted_by} already; load another, or copy it before"
        )
    if not isinstance(backbone, CLIP):
        backbone = load_clip(backbone)
    clip_model = instance.precision.store(backbone)
    if not clip_model.logit_scale.is_meta:  # a model without weights tells nothing of them
        warn_of_unlearned_words(clip_model, prompts)
    logger.info("Building custom CLIP")
    model = instance.model_class(clip_model, prompts, instance.attach_adapters(clip_model, prompts))
    model.method = instance
    clip_model.adapted_by = instance.key
    logger.info("Turning off gradients in both the image and the text encoder")
    freeze_backbone(model)
    return model


def check_groups(prompts: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """The prompts of each class.

    Raises:
        ValueError: there are none, a class has none, or a class has a text instead of a list.
    """
    if not prompts:
        raise ValueError("there are no classes; name at least one")
    for group in prompts:
        if isinstance(group, str) or not group:
            raise ValueError(f"a class has the prompts {group!r}; give each class a list of texts")
    return prompts


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


def accuracy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Percentage of ``(B, C')`` logits that are right about ``(B,)`` targets; stays on the device."""
    return (logits.argmax(dim=1) == target).float().mean() * 100

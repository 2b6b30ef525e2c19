"""Both sides of a comparison on the same weights, prompts and images: one unit of work each.

A side is ``published`` (benchmarks/reference.py: float32 on a CPU, float16 autocast on a GPU) or one of this
project's precisions (fp32, bf16, amp, fp16), which steps as the trainer does.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.method import build_model
from adapt.precision import PRECISIONS
from adapt.prompts import ClassPrompts
from benchmarks import reference
from benchmarks.flops import SIZES, Sizes
from clip.model import CLIP
from clip.model import build_model as build_clip
from dassl.config import get_cfg_default
from dassl.optim import build_optimizer
from trainers.heba import HeBA, extend_cfg

HERE = Path(__file__).parent
LENGTHS = json.loads((HERE / "data" / "lengths.json").read_text())  # number of prompts by length
SIDES = ("published", *PRECISIONS)
START, END = 49406, 49407  # CLIP's token ids


@dataclass(frozen=True)
class Work:
    """What is computed.

    Attributes:
        job: step, text or eval.
        images: in a training step, or evaluated in one batch.
        classes: number of classes, all of which take part in a step.
        descriptions: prompts of each class.
        lengths: name in data/lengths.json whose prompt lengths are drawn from.
        prompts: JSON of descriptions to tokenise instead.
        backbone: key of ``SIZES``.
        weights: file with CLIP's weights; "": random ones.
        seed: of everything random.
    """

    job: str
    images: int = 16
    classes: int = 50
    descriptions: int = 1
    lengths: str = "caltech101"
    prompts: str = ""
    backbone: str = "ViT-B/16"
    weights: str = ""
    seed: int = 0

    @property
    def sizes(self) -> Sizes:
        return SIZES[self.backbone]

    def clip_weights(self) -> dict[str, Tensor]:
        """CLIP's tensors, random ones in float16 as in OpenAI's files."""
        if self.weights:
            from clip import load_state_dict

            return load_state_dict(self.weights).state_dict
        s = self.sizes
        torch.manual_seed(self.seed)
        heads = s.text_width // 64
        sizes = (s.embed, s.resolution, s.image_layers, s.image_width, s.patch, 77, 49408)
        return CLIP(*sizes, s.text_width, heads, s.text_layers).half().state_dict()

    def adapter_weights(self) -> dict[str, Tensor]:
        """Random adapters by their published names."""
        s = self.sizes
        torch.manual_seed(self.seed + 1)
        sizes = (s.text_width, s.text_layers), (s.image_width, s.image_layers)
        return reference.Learner(*sizes).state_dict()

    def tokens(self) -> Tensor:
        """(classes, descriptions, 77) token ids of given descriptions, or random ones of real lengths."""
        if self.prompts:
            return self.real_tokens()
        counts = LENGTHS[self.lengths]
        lengths = torch.tensor([int(length) for length in counts])
        shares = torch.tensor([float(count) for count in counts.values()])
        generator = torch.Generator().manual_seed(self.seed + 2)
        shape = (self.classes, self.descriptions)
        drawn = shares.multinomial(self.classes * self.descriptions, True, generator=generator).view(shape)
        last = lengths[drawn][..., None] - 1  # (C, P, 1)
        words = torch.randint(1, START, (*shape, 77), generator=generator)
        place = torch.arange(77)
        words[..., 0] = START
        return torch.where(place < last, words, (place == last) * END)

    def real_tokens(self) -> Tensor:
        from adapt.prompts import description_prompts

        path = Path(self.prompts)
        names = list(json.loads(path.read_text()))[: self.classes]
        groups = description_prompts(names, path, "a photo of a")
        groups = [[group[i % len(group)] for i in range(self.descriptions)] for group in groups]
        return ClassPrompts.tokenize(groups).tokens.view(len(names), self.descriptions, -1)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R) and labels (B,), which differ as far as there are classes."""
        generator = torch.Generator().manual_seed(self.seed + 3)
        side = self.sizes.resolution
        image = torch.randn(self.images, 3, side, side, generator=generator)
        return image, torch.arange(self.images) % self.classes

    def operations(self) -> int:
        """Necessary floating-point operations of one run."""
        sizes, images = self.sizes, self.sizes.images(self.images)
        if self.job == "eval":
            return sizes.image.forward(images)
        texts = (self.tokens().argmax(-1) + 1).flatten().tolist()
        if self.job == "text":
            return sizes.text.forward(texts)
        both = ((sizes.image, images), (sizes.text, texts))
        return sum(tower.forward(lengths) + tower.backward(lengths) for tower, lengths in both)


class Ours:
    """This project's HeBA: random weights, prompts and images; steps as its trainer makes them."""

    def __init__(self, work: Work, precision: str, device: torch.device) -> None:
        cfg = get_cfg_default()
        extend_cfg(cfg)
        cfg.TRAINER.HeBA.update(PREC=precision, ADAPTER_END=-1, NEG_SAMPLING_RATIO=work.classes)
        cfg.OPTIM.update(NAME="sgd", LR=0.0075, LR_SCHEDULER="cosine")
        tokens = work.tokens()
        prompts = ClassPrompts(tokens.flatten(0, 1), torch.full((len(tokens),), tokens.shape[1]))
        clip_model = build_clip(work.clip_weights(), quick_gelu=True, half=False)
        self.device = device
        self.model = build_model(HeBA.method, cfg.TRAINER.HeBA, (), clip_model, prompts=prompts).to(device)
        self.model.adapter_learner.load_state_dict(work.adapter_weights())
        self.optim = build_optimizer(self.model.adapter_learner, cfg.OPTIM)
        self.precision = self.model.method.precision
        self.scaler = self.precision.grad_scaler(device)

    def job(self, work: Work) -> Callable[[], Tensor]:
        image, label = work.batch()
        self.model.train(work.job == "step")
        if work.job == "step":
            return lambda: self.step(image, label)
        if work.job == "text":

            def text_features() -> Tensor:
                with self.precision.autocast(self.device):
                    return self.model.text_features()

            return text_features
        dim = self.model.clip.text_projection.shape[1]
        self.model._kept_text_features = class_features(work.classes, dim, self.device)
        return lambda: self.infer(image)

    def step(self, image: Tensor, label: Tensor) -> Tensor:
        batch = self.model.method.batch(self.model, image, label, self.device)
        with self.precision.autocast(self.device):
            loss, _ = self.model.method.loss(self.model, batch)
        if self.device.type == "cpu" and not loss.isfinite():
            raise FloatingPointError("Loss is infinite or NaN!")
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        self.optim.zero_grad()
        return loss.detach()

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        with self.precision.autocast(self.device):
            return self.model(image.to(self.device))


class Published:
    """The published code's way of computing."""

    def __init__(self, work: Work, device: torch.device) -> None:
        self.device = device
        weights = {name: tensor.float() for name, tensor in work.clip_weights().items()}
        self.model = reference.PublishedHeBA(weights, work.tokens(), negatives=work.classes)
        del weights
        self.model.adapter_learner.load_state_dict(work.adapter_weights())
        self.model.to(device)
        self.optim = torch.optim.SGD(
            self.model.adapter_learner.parameters(), lr=0.0075, momentum=0.9, weight_decay=5e-4
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def job(self, work: Work) -> Callable[[], Tensor]:
        image, label = work.batch()
        self.model.train(work.job == "step")
        self.model.set_scales()
        return {
            "step": lambda: self.step(image, label),
            "text": self.text,
            "eval": self.evaluation(work, image),
        }[work.job]

    def autocast(self) -> torch.autocast:
        cuda = self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.float16 if cuda else None, enabled=cuda)

    def step(self, image: Tensor, label: Tensor) -> Tensor:
        image, label = image.to(self.device), label.to(self.device)
        self.model.set_scales()
        with self.autocast():
            loss, _ = self.model.loss(image, label)
        if self.device.type == "cpu" and not torch.isfinite(loss).all():  # its amp branch does not look
            raise FloatingPointError("Loss is infinite or NaN!")
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        loss.item()  # the published loop logs it every step
        return loss.detach()

    def text(self) -> Tensor:
        with self.autocast():
            return self.model.text_features()

    def evaluation(self, work: Work, image: Tensor) -> Callable[[], Tensor]:
        text = class_features(work.classes, self.model.text_projection.shape[1], self.device)

        def run() -> Tensor:
            with self.autocast():
                return self.model.predict(image.to(self.device), text)

        return run


def class_features(classes: int, dim: int, device: torch.device) -> Tensor:
    """Random class features of length 1, the same on both sides."""
    features = torch.randn(classes, dim, generator=torch.Generator().manual_seed(4))
    return nn.functional.normalize(features, dim=-1).to(device)


def make(side: str, work: Work, device: torch.device) -> Callable[[], Tensor]:
    """One unit of work of a side, to be called again and again."""
    return (Published(work, device) if side == "published" else Ours(work, side, device)).job(work)


def compute_type(side: str, device: torch.device) -> torch.dtype:
    """The type of a side's matrix products."""
    if side == "published":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}.get(side, torch.float16)

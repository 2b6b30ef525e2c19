"""Zero-shot CLIP: hand-written prompts, nothing trained (CoOp's trainers/zsclip.py)."""

from collections.abc import Sequence

from yacs.config import CfgNode

from adapt.method import Method
from adapt.prompts import ClassPrompts, template_prompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer

# Seven templates that CLIP's authors selected (notebooks/Prompt_Engineering_for_ImageNet.ipynb).
IMAGENET_TEMPLATES_SELECT = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def extend_cfg(cfg: CfgNode) -> None:
    """Declares the options that both zero-shot methods read."""
    cfg.TRAINER.ZeroshotCLIP = CfgNode()
    options = cfg.TRAINER.ZeroshotCLIP
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEMPLATES = ()  # prompts to use instead, e.g. "('a photo of a {}.',)"


class ZeroShot(Method):
    """One template a data set, e.g. "a centered satellite photo of {}." for EuroSAT."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "ZeroshotCLIP"
    published_precision = "fp16"

    def templates(self) -> tuple[str, ...]:
        return (self.texts.template,)

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        return template_prompts(classnames, self.options.TEMPLATES or self.templates())

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> None:
        return None


class ZeroShotEnsemble(ZeroShot):
    """CLIP's seven selected templates, and the data set's own where it is not ImageNet."""

    def templates(self) -> tuple[str, ...]:
        own = () if self.texts.dataset == "ImageNet" else super().templates()
        return IMAGENET_TEMPLATES_SELECT + own


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    """``--trainer ZeroshotCLIP``."""

    method = ZeroShot

    def train(self) -> None:
        """Nothing to train: evaluates."""
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """``--trainer ZeroshotCLIP2``."""

    method = ZeroShotEnsemble

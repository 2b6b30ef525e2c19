"""Zero-shot CLIP: hand-written prompts, nothing trained (CoOp's trainers/zsclip.py)."""

from yacs.config import CfgNode

from adapt.prompts import dataset_template, template_prompts
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


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    """One template a data set, e.g. "a centered satellite photo of {}." for EuroSAT."""

    options_name = "ZeroshotCLIP"
    published_precision = "fp16"

    def templates(self) -> tuple[str, ...]:
        return (dataset_template(self.cfg),)

    def class_prompts(self, classnames: list[str]) -> list[list[str]]:
        return template_prompts(classnames, self.options.TEMPLATES or self.templates())

    def build_adapters(self, clip_model: CLIP) -> None:
        return None

    def train(self) -> None:
        """Nothing to train: evaluates."""
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """An ensemble: CLIP's seven selected templates, and the data set's own where it is not ImageNet."""

    def templates(self) -> tuple[str, ...]:
        own = () if self.cfg.DATASET.NAME == "ImageNet" else super().templates()
        return IMAGENET_TEMPLATES_SELECT + own

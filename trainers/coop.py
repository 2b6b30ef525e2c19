"""CoOp: the words before the class name are learned (IJCV 2022, arXiv 2109.01134).

    t_c = text encoder(v_1 ... v_M, class name, ".")

The vectors v are all that is trained: 2,048 numbers at ViT-B/16 with the four that start from "a photo of a",
where training starts from zero-shot CLIP. Agrees with trainers/coop.py of KaiyangZhou/CoOp at ff61507.
"""

from yacs.config import CfgNode

from adapt.learned_words import LearnedWords, PromptLearner
from adapt.prompts import ClassPrompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares CoOp's options with the defaults of its train.py."""
    cfg.TRAINER.COOP = CfgNode()
    options = cfg.TRAINER.COOP
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.CTX_INIT = ""  # words that the vectors start from, one vector a word: N_CTX is not used then
    options.N_CTX = 16  # number of vectors M where CTX_INIT is empty; they start from N(0, 0.02^2)
    options.CSC = False  # each class has vectors of its own; then no other classes can be evaluated
    options.CLASS_TOKEN_POSITION = "end"  # where the class name stands: end, middle, front


class ContextOptimization(LearnedWords):
    """Trains the vectors by cross entropy over all classes."""

    extend_cfg = staticmethod(extend_cfg)
    name, options_name = "CoOp", "COOP"

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> PromptLearner:
        return PromptLearner(clip_model, self.context, len(prompts.counts) if self.class_specific else 1)


@TRAINER_REGISTRY.register()
class CoOp(ClipTrainer):
    """``--trainer CoOp``."""

    method = ContextOptimization

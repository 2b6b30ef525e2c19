"""CoOp: the words before the class name are learned (IJCV 2022, arXiv 2109.01134).

    t_c = text encoder(v_1 ... v_M, class name, ".")

The vectors v are all that is trained: 2,048 numbers at ViT-B/16 with the four that start from "a photo of a",
where training starts from zero-shot CLIP. Agrees with trainers/coop.py of KaiyangZhou/CoOp at ff61507.
"""

from pathlib import Path

from yacs.config import CfgNode

from adapt.learned_words import PromptLearner, PromptTrainer
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from runner.export import FILE_NAME, read_adapter


def extend_cfg(cfg: CfgNode) -> None:
    """Declares CoOp's options with the defaults of its train.py."""
    cfg.TRAINER.COOP = CfgNode()
    options = cfg.TRAINER.COOP
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.CTX_INIT = ""  # words that the vectors start from, one vector a word: N_CTX is not used then
    options.N_CTX = 16  # number of vectors M where CTX_INIT is empty; they start from N(0, 0.02^2)
    options.CSC = False  # each class has vectors of its own; then no other classes can be evaluated
    options.CLASS_TOKEN_POSITION = "end"  # where the class name stands: end, middle, front


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains the vectors by cross entropy over all classes."""

    options_name = "COOP"

    def build_adapters(self, clip_model: CLIP) -> PromptLearner:
        return PromptLearner(clip_model, self.context, len(self.texts) if self.context.own else 1)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Loads the vectors; those of single classes for the same classes alone (else ValueError)."""
        exported = Path(directory or "") / self.adapters_name / FILE_NAME
        if self.context.own and directory and directory != self.output_dir and exported.is_file():
            theirs, ours = read_adapter(exported).classnames, self.dm.dataset.classnames
            if theirs != ours:
                raise ValueError(
                    f'the model of "{directory}" learned words for each of its {len(theirs)} classes '
                    f"({theirs[0]}, …), so it has none for these {len(ours)} ({ours[0]}, …); evaluate its "
                    "own classes, or train with TRAINER.COOP.CSC False"
                )
        super().load_model(directory, epoch)

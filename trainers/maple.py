"""MaPLe: learned prompts in the first blocks of both encoders (CVPR 2023, arXiv 2210.03117).

    text:   block 0 reads [start, P_0, rest of the prompt];   block k < J: P_k in the place of those tokens
    image:  block 0 reads [class, patches, V_0];              block k < J: V_k in the place of the last tokens
    V_k = W_k P_k + b_k

Each P_k is two vectors (N_CTX), J is PROMPT_DEPTH; later blocks go on with what became of the prompts. P_0
is words of the prompt, with position embeddings; V_0 comes before the first LayerNorm. At ViT-B/16 and J = 9
there are 3,555,072 weights, nearly all in W. Agrees with trainers/maple.py of multimodal-prompt-learning at
69bce21.
"""

from copy import deepcopy

import torch
from torch import nn
from yacs.config import CfgNode

from adapt.attach import check_vit
from adapt.blocks import AppendedPrompts, PromptedImage, PromptedText, PromptVectors
from adapt.learned_words import STD, Context, LearnedWords, PromptLearner
from adapt.prompts import ClassPrompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer

PUBLISHED_PREFIX = "prompt_learner."  # of what is ours in a published checkpoint, which holds CLIP too


def extend_cfg(cfg: CfgNode) -> None:
    """Declares MaPLe's options with the defaults of its train.py."""
    cfg.TRAINER.MAPLE = CfgNode()
    options = cfg.TRAINER.MAPLE
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.N_CTX = 2  # prompts in each block: the first words of CTX_INIT
    options.CTX_INIT = "a photo of a"  # words before the class name; "": N_CTX random vectors
    options.PROMPT_DEPTH = 9  # J, number of blocks with prompts of their own, the first one included


class MultiModalPromptLearner(PromptLearner):
    """The prompts of all blocks and their maps, under their published names."""

    def __init__(self, clip_model: CLIP, context: Context, depth: int) -> None:
        super().__init__(clip_model, context)
        text, visual = clip_model.transformer, clip_model.visual.transformer
        self.proj = nn.Linear(text.width, visual.width)
        deep = range(depth - 1)
        self.compound_prompts_text = nn.ParameterList(
            nn.init.normal_(torch.empty(context.number, text.width), std=STD) for _ in deep
        )
        one = nn.Linear(text.width, visual.width)  # all start from the same map
        self.compound_prompt_projections = nn.ModuleList(deepcopy(one) for _ in deep)
        first = PromptVectors(self.ctx, self.proj)
        clip_model.visual.ln_pre = AppendedPrompts(clip_model.visual.ln_pre, first)
        pairs = zip(self.compound_prompts_text, self.compound_prompt_projections, strict=True)
        for k, (prompts, proj) in enumerate(pairs, start=1):
            text.resblocks[k] = PromptedText(text.resblocks[k], PromptVectors(prompts))
            visual.resblocks[k] = PromptedImage(visual.resblocks[k], PromptVectors(prompts, proj))


class MultiModalPrompts(LearnedWords):
    """Trains the prompts by cross entropy over all classes."""

    extend_cfg = staticmethod(extend_cfg)
    name, options_name = "MaPLe", "MAPLE"
    folder = "MultiModalPromptLearner"
    adapts_vit = True
    learn_all_init_words = False

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> MultiModalPromptLearner:
        check_vit(hasattr(clip_model.visual, "transformer"), self.key)
        depth = self.options.PROMPT_DEPTH
        most = min(clip_model.transformer.layers, clip_model.visual.transformer.layers)
        if not 1 <= depth <= most:
            raise ValueError(f"{self.key}.PROMPT_DEPTH is {depth}; set it to 1 to {most}, this CLIP's blocks")
        return MultiModalPromptLearner(clip_model, self.context, depth)

    def own_tensors(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Leaves out CLIP, which a published checkpoint holds beside the prompts."""
        published = {
            name.removeprefix(PUBLISHED_PREFIX): tensor
            for name, tensor in state_dict.items()
            if name.startswith(PUBLISHED_PREFIX)
        }
        return published or state_dict


@TRAINER_REGISTRY.register()
class MaPLe(ClipTrainer):
    """``--trainer MaPLe``."""

    method = MultiModalPrompts

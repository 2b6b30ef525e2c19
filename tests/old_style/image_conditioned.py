"""In the shape of CoCoOp's cocoop.py: a small network shifts the learned vectors by the image's feature."""

from collections import OrderedDict

import torch
import torch.nn as nn
from torch.cuda.amp import autocast
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY

from .context_tuning import Prompts, PromptTrainer, Texts, load_clip_to_cpu, unit


class ShiftedPrompts(Prompts):
    def __init__(self, options, size, classnames, clip_model):
        super().__init__(options, size, classnames, clip_model)
        image_width, width = clip_model.visual.output_dim, self.ctx.shape[-1]
        layers = OrderedDict()
        layers["linear1"] = nn.Linear(image_width, image_width // 16)
        layers["relu"] = nn.ReLU(inplace=True)
        layers["linear2"] = nn.Linear(image_width // 16, width)
        self.meta_net = nn.Sequential(layers)
        if options.PREC == "fp16":
            self.meta_net.half()

    def forward(self, features):
        shifted = self.ctx.unsqueeze(0) + self.meta_net(features).unsqueeze(1)  # (B, vectors, width)
        n_cls = len(self.name_lens)
        rows = [
            torch.cat([self.token_prefix, one.unsqueeze(0).expand(n_cls, -1, -1), self.token_suffix], dim=1)
            for one in shifted
        ]
        return torch.stack(rows)


class Whole(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = ShiftedPrompts(cfg.TRAINER.COCOOP, cfg.INPUT.SIZE, classnames, clip_model)
        self.image_encoder = clip_model.visual
        self.text_encoder = Texts(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, image, label=None):
        features = unit(self.image_encoder(image.type(self.dtype)))
        logits = []
        for prompts, feature in zip(self.prompt_learner(features), features, strict=True):
            texts = unit(self.text_encoder(prompts, self.prompt_learner.tokens))
            logits.append(self.logit_scale.exp() * feature @ texts.t())
        logits = torch.stack(logits)
        if self.prompt_learner.training:
            return F.cross_entropy(logits, label)
        return logits


@TRAINER_REGISTRY.register()
class ImageConditioned(PromptTrainer):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COCOOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        prec = cfg.TRAINER.COCOOP.PREC
        clip_model = load_clip_to_cpu(cfg)
        if prec == "fp32" or prec == "amp":
            clip_model.float()
        self.prepare(Whole(cfg, self.dm.dataset.classnames, clip_model), prec)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        if self.cfg.TRAINER.COCOOP.PREC == "amp":
            with autocast():
                loss = self.model(image, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            loss = self.model(image, label)
            self.optim.zero_grad()
            loss.backward()
            self.optim.step()
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}

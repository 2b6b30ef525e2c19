"""In the shape of CoOp's coop.py: learned vectors before, in the middle of or after the class name."""

import os.path as osp

import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

_tokenizer = _Tokenizer()


def load_clip_to_cpu(cfg):
    path = clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])
    try:
        archive = torch.jit.load(path, map_location="cpu").eval()
        weights = None
    except RuntimeError:
        weights = torch.load(path, map_location="cpu")
    return clip.build_model(weights or archive.state_dict())


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


class Texts(nn.Module):
    """The text tower from prompt embeddings on."""

    def __init__(self, clip_model):
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts, tokens):
        x = (prompts + self.positional_embedding.type(self.dtype)).permute(1, 0, 2)
        x = self.transformer(x).permute(1, 0, 2)  # (length, batch, width) in between
        x = self.ln_final(x).type(self.dtype)
        return x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ self.text_projection


class Prompts(nn.Module):
    """Learned vectors; what stands around them lies in buffers, which depend on the classes."""

    def __init__(self, options, size, classnames, clip_model):
        super().__init__()
        assert size[0] == clip_model.visual.input_resolution
        dtype = clip_model.dtype
        width = clip_model.ln_final.weight.shape[0]
        if options.CTX_INIT:
            words = options.CTX_INIT.replace("_", " ")
            n_ctx = len(words.split(" "))
            with torch.no_grad():
                embedded = clip_model.token_embedding(clip.tokenize(words)).type(dtype)
            vectors = embedded[0, 1 : 1 + n_ctx, :]
        else:
            n_ctx = options.N_CTX
            shape = (len(classnames), n_ctx, width) if options.get("CSC") else (n_ctx, width)
            vectors = torch.empty(*shape, dtype=dtype)
            nn.init.normal_(vectors, std=0.02)
            words = " ".join(["X"] * n_ctx)
        self.ctx = nn.Parameter(vectors)
        names = [name.replace("_", " ") for name in classnames]
        self.name_lens = [len(_tokenizer.encode(name)) for name in names]
        self.tokens = torch.cat([clip.tokenize(f"{words} {name}.") for name in names])
        with torch.no_grad():
            embedded = clip_model.token_embedding(self.tokens).type(dtype)
        self.register_buffer("token_prefix", embedded[:, :1, :])
        self.register_buffer("token_suffix", embedded[:, 1 + n_ctx :, :])
        self.position = options.get("CLASS_TOKEN_POSITION", "end")

    def forward(self):
        ctx = self.ctx
        if ctx.dim() == 2:
            ctx = ctx.unsqueeze(0).expand(len(self.name_lens), -1, -1)
        rows = []
        for start, vectors, rest, length in zip(
            self.token_prefix, ctx, self.token_suffix, self.name_lens, strict=True
        ):
            before = {"end": len(vectors), "middle": len(vectors) // 2, "front": 0}[self.position]
            name = 0 if self.position == "end" else length
            rows.append(torch.cat([start, vectors[:before], rest[:name], vectors[before:], rest[name:]]))
        return torch.stack(rows)


class Whole(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = Prompts(cfg.TRAINER.COOP, cfg.INPUT.SIZE, classnames, clip_model)
        self.image_encoder = clip_model.visual
        self.text_encoder = Texts(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, image):
        features = unit(self.image_encoder(image.type(self.dtype)))
        texts = unit(self.text_encoder(self.prompt_learner(), self.prompt_learner.tokens))
        return self.logit_scale.exp() * features @ texts.t()


class PromptTrainer(TrainerX):
    """What both prompt learners' trainers have in common."""

    def prepare(self, model, prec):
        for name, param in model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        if self.cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(model.prompt_learner, self.cfg.MODEL.INIT_WEIGHTS)
        self.model = model
        self.model.to(self.device)
        self.optim = build_optimizer(model.prompt_learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", model.prompt_learner, self.optim, self.sched)
        self.scaler = GradScaler() if prec == "amp" else None
        if torch.cuda.device_count() > 1:
            self.model = nn.DataParallel(self.model)

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            file = "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch)
            path = osp.join(directory, name, file)
            if not osp.exists(path):
                raise FileNotFoundError(f'Model not found at "{path}"')
            checkpoint = load_checkpoint(path)
            state_dict = checkpoint["state_dict"]
            for buffer in ("token_prefix", "token_suffix"):
                if buffer in state_dict:
                    del state_dict[buffer]
            print(f'Loading weights to {name} from "{path}" (epoch = {checkpoint["epoch"]})')
            self._models[name].load_state_dict(state_dict, strict=False)


@TRAINER_REGISTRY.register()
class ContextTuning(PromptTrainer):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        prec = cfg.TRAINER.COOP.PREC
        clip_model = load_clip_to_cpu(cfg)
        if prec == "fp32" or prec == "amp":
            clip_model.float()
        self.prepare(Whole(cfg, self.dm.dataset.classnames, clip_model), prec)
        self.prompts = (
            self.model
        )  # attributes of a trainer are its own: nothing here reads them as class prompts

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        if self.cfg.TRAINER.COOP.PREC == "amp":
            with autocast():
                output = self.model(image)
                loss = F.cross_entropy(output, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            output = self.model(image)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary

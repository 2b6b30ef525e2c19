"""HeBA computed the way the published code computes it: the plain side of every comparison here.

Texts of 77 tokens, tokens as (N, B, D), every token through every block, convolutions on permuted grids,
gradient scaling by layers around each adapter, negative classes looked up in a Python loop;
float32 on a CPU and float16 autocast on a GPU. It computes what the published code computes:
tests/test_benchmarks.py holds it against that code's numbers. It loads the tensors of ``clip.model.CLIP`` and
of ``AdapterLearner``.

Symbols: N tokens, B images or prompts, D width, d width of an adapter.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GradientScale(torch.autograd.Function):
    """The value itself; its gradient times ``scale``."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


class Adapter(nn.Module):
    """``x + s LN(x + W_up GELU(M(W_down x)))`` on tokens (N, B, d); on images the class token passes by."""

    def __init__(self, width: int, image: bool) -> None:
        super().__init__()
        hidden = width // 4
        self.image = image
        if image:
            self.down = nn.Conv2d(width, hidden, 1, bias=False)
            self.mid = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
            self.up = nn.Conv2d(hidden, width, 1, bias=False)
        else:
            self.down, self.mid = nn.Linear(width, hidden, bias=False), nn.Identity()
            self.up = nn.Linear(hidden, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.scale = 0.0

    def block(self, x: Tensor) -> Tensor:
        if not self.image:
            return self.norm(x + self.up(F.gelu(self.mid(self.down(x)))))
        side, batch, width = math.isqrt(len(x)), x.shape[1], x.shape[2]
        grid = x.permute(1, 2, 0).reshape(batch, width, side, side)
        grid = grid + self.up(F.gelu(self.mid(self.down(grid))))
        return self.norm(grid.permute(0, 2, 3, 1)).reshape(batch, side * side, width).permute(1, 0, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[1:] if self.image else x
        update = self.block(GradientScale.apply(tokens, self.scale))
        tokens = tokens + GradientScale.apply(self.scale * update, 1 / self.scale)
        return torch.cat([x[:1], tokens]) if self.image else tokens


class WideNorm(nn.LayerNorm):
    """Computes in float32 and returns the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """One transformer block on (N, B, D), its adapters handed in."""

    def __init__(self, width: int, heads: int, mask: Tensor | None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = WideNorm(width), WideNorm(width)
        layers = {
            "c_fc": nn.Linear(width, 4 * width),
            "gelu": QuickGELU(),
            "c_proj": nn.Linear(4 * width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.mask = mask

    def forward(self, x: Tensor, adapters: nn.ModuleDict) -> Tensor:
        y = adapters["att_conv"](self.ln_1(x))
        if self.mask is not None:
            self.mask = self.mask.to(y.device, y.dtype)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        y = adapters["mlp_conv"](self.mlp.c_fc(self.ln_2(x)))
        return x + self.mlp.c_proj(self.mlp.gelu(y))


class Tower(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, mask: Tensor | None = None) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mask) for _ in range(layers))

    def forward(self, x: Tensor, adapters: nn.ModuleDict) -> Tensor:
        for number, block in enumerate(self.resblocks, 1):
            x = block(x, adapters[str(number)])
        return x


class Visual(nn.Module):
    def __init__(self, width: int, layers: int, patch: int, tokens: int, embed: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre, self.ln_post = WideNorm(width), WideNorm(width)
        self.transformer = Tower(width, layers, width // 64)
        self.proj = nn.Parameter(torch.empty(width, embed))

    def forward(self, image: Tensor, adapters: nn.ModuleDict) -> Tensor:
        x = self.conv1(image).flatten(2).permute(0, 2, 1)
        cls = self.class_embedding.to(x.dtype) + x.new_zeros(x.shape[0], 1, x.shape[-1])
        x = self.ln_pre(torch.cat([cls, x], dim=1) + self.positional_embedding.to(x.dtype))
        x = self.transformer(x.permute(1, 0, 2), adapters).permute(1, 0, 2)
        return self.ln_post(x[:, 0]) @ self.proj


class Learner(nn.Module):
    """The adapters, by their published names."""

    def __init__(self, text: tuple[int, int], image: tuple[int, int]) -> None:
        super().__init__()

        def adapters(width: int, layers: int, image: bool) -> nn.ModuleDict:
            places = (("att_conv", width), ("mlp_conv", 4 * width))
            return nn.ModuleDict(
                {
                    str(number): nn.ModuleDict({name: Adapter(size, image) for name, size in places})
                    for number in range(1, layers + 1)
                }
            )

        self.text_adapter = adapters(*text, image=False)
        self.visual_adapter = adapters(*image, image=True)


class PublishedHeBA(nn.Module):
    """CLIP with HeBA's adapters on all blocks.

    Args:
        weights: CLIP's state dict, OpenAI's names.
        prompts: (classes, descriptions, 77) token ids.
        scale: s.
        factor: of fast steps.
        ratio: probability of a slow step.
        negatives: negative classes for each class of a batch; -1: all classes.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        prompts: Tensor,
        scale: float = 0.025,
        factor: float = 2.25,
        ratio: float = 0.8,
        negatives: int = 5,
    ) -> None:
        super().__init__()
        self.scale, self.factor, self.ratio, self.negatives = scale, factor, ratio, negatives

        def blocks(prefix: str) -> int:
            return 1 + max(
                int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix)
            )

        width, _, patch, _ = weights["visual.conv1.weight"].shape
        tokens = len(weights["visual.positional_embedding"])
        length, text_width = weights["positional_embedding"].shape
        text_layers, layers = blocks("transformer.resblocks."), blocks("visual.transformer.resblocks.")
        mask = torch.full((length, length), float("-inf")).triu(1)
        self.visual = Visual(width, layers, patch, tokens, weights["visual.proj"].shape[1])
        self.transformer = Tower(text_width, text_layers, text_width // 64, mask)
        self.token_embedding = nn.Embedding(*weights["token_embedding.weight"].shape)
        self.positional_embedding = nn.Parameter(torch.empty(length, text_width))
        self.ln_final = WideNorm(text_width)
        self.text_projection = nn.Parameter(torch.empty(weights["text_projection"].shape))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.load_state_dict(weights)
        self.requires_grad_(False)
        self.adapter_learner = Learner((text_width, text_layers), (width, layers))
        self.register_buffer("prompts", prompts, persistent=False)

    def set_scales(self) -> None:
        """Slow-fast in training: one draw for each block of each encoder."""
        for adapters in (self.adapter_learner.text_adapter, self.adapter_learner.visual_adapter):
            for block in adapters.values():
                fast = self.training and torch.rand(1).item() > self.ratio
                for adapter in block.values():
                    adapter.scale = self.scale * self.factor if fast else self.scale

    def encode_text(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.transformer(x.permute(1, 0, 2), self.adapter_learner.text_adapter).permute(1, 0, 2)
        x = self.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection
        return x / x.norm(dim=-1, keepdim=True)

    def encode_image(self, image: Tensor) -> Tensor:
        x = self.visual(image, self.adapter_learner.visual_adapter)
        return x / x.norm(dim=-1, keepdim=True)

    def sample(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Classes of the step, and the labels as positions among them; looks classes up one by one."""
        everyone = torch.arange(len(self.prompts), device=label.device)
        if self.negatives < 0 or len(everyone) <= len(label):
            return everyone, label
        positive, target = label.unique(return_inverse=True)
        others = everyone[torch.tensor([number not in positive for number in everyone], device=label.device)]
        drawn = torch.randperm(len(others))[: self.negatives * len(positive)]
        return torch.cat([positive, others[drawn.to(label.device)]]), target

    def loss(self, image: Tensor, label: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Label-smoothed cross entropy, and the logits.

        Args:
            image: (B, 3, R, R).
            label: (B,).
            tokens: (C', 77) one prompt for each class; None: drawn.
        """
        if tokens is None:
            classes, label = self.sample(label)
            which = torch.randint(self.prompts.shape[1], (len(classes),))
            tokens = self.prompts[classes, which.to(classes.device)]
        text = self.encode_text(tokens)
        logits = self.logit_scale.exp() * self.encode_image(image) @ text.t()
        likelihood = logits.log_softmax(dim=-1)
        nll = -likelihood.gather(-1, label[:, None]).squeeze(1)
        return (0.9 * nll - 0.1 * likelihood.mean(dim=-1)).mean(), logits

    @torch.no_grad()
    def text_features(self) -> Tensor:
        """(C, E) class features of all descriptions, one description of every class at a time."""
        total = torch.zeros((), device=self.prompts.device)
        for tokens in self.prompts.unbind(1):
            total = total + self.encode_text(tokens)
        return total / total.norm(dim=-1, keepdim=True)

    @torch.no_grad()
    def predict(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, C) logits of images and class features."""
        return self.logit_scale.exp() * self.encode_image(image) @ text.t()

"""RMAdapter's equations a second time: einsum and loops in float64, texts padded to 77 tokens."""

import math

import torch
from yacs.config import CfgNode

from tests.goldens import tiny_clip_weights


class Reference:
    """CLIP with RMAdapter's equations: einsum and loops, every token of every block, float64.

    Symbols: B images or texts, N tokens, D width, H heads, E width of a head, R rank.
    """

    def __init__(self, options: CfgNode, adapters: dict[str, torch.Tensor]) -> None:
        self.options = options
        self.clip = {name: tensor.double() for name, tensor in tiny_clip_weights().items()}
        self.adapters = {name: tensor.detach().double().requires_grad_() for name, tensor in adapters.items()}
        if options.SHARING == "up":  # one tensor under two names
            for name in list(self.adapters):
                if ".rec_up." in name:
                    self.adapters[name] = self.adapters[name.replace(".rec_up.", ".up.")]

    def linear(self, x: torch.Tensor, name: str, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.einsum("bnd,rd->bnr", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / deviation * self.clip[f"{name}.weight"] + self.clip[f"{name}.bias"]

    def block(self, x: torch.Tensor, name: str, causal: bool) -> torch.Tensor:
        B, N, D = x.shape
        qkv = torch.einsum(
            "bnd,ed->bne", self.norm(x, f"{name}.ln_1"), self.clip[f"{name}.attn.in_proj_weight"]
        )
        q, k, v = (qkv + self.clip[f"{name}.attn.in_proj_bias"]).view(B, N, 3, 2, D // 2).unbind(2)
        scores = torch.einsum("bnhe,bmhe->bhnm", q, k) / math.sqrt(D // 2)
        if causal:
            scores = scores + torch.full((N, N), float("-inf"), dtype=torch.float64).triu(1)
        y = torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v).reshape(B, N, D)
        x = x + self.linear(y, f"{name}.attn.out_proj", self.clip)
        hidden = self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc", self.clip)
        return x + self.linear(hidden * torch.sigmoid(1.702 * hidden), f"{name}.mlp.c_proj", self.clip)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    def reconstruction(self, x: torch.Tensor, adapter: str) -> torch.Tensor:
        """Equation (10), and its relatives of tables 5 and 6."""
        down = f"{adapter}.down" if self.options.SHARING == "down" else f"{adapter}.rec_down"
        h = self.gelu(self.linear(x, down, self.adapters))
        for layer in range(self.options.REC_LAYERS - 1):
            h = self.gelu(self.linear(h, f"{adapter}.rec_mid.{2 * layer}", self.adapters))
        return self.linear(h, f"{adapter}.rec_up", self.adapters)

    def missed(self, x: torch.Tensor, adapter: str, real: torch.Tensor) -> torch.Tensor:
        """Equation (11) or (12) of one block; ``real`` (B, N) is True where a token is no padding."""
        x = x.detach() if self.options.REC_LOCAL else x
        found = self.reconstruction(x, adapter)
        if self.options.REC_LOSS == "cosine":
            each = 1 - (found * x).sum(-1) / (found.norm(dim=-1) * x.norm(dim=-1))
            return each[real].mean()
        gap = found - x
        each = gap.square() if self.options.REC_LOSS == "l2" else gap.abs()
        return (each.sum(-1) / (x.shape[-1] if self.options.REC_REDUCTION == "mean" else 1))[real].mean()

    def tower(self, x: torch.Tensor, side: str, real: torch.Tensor, adapted: bool) -> tuple:
        """Equations (14), (15): tokens behind the last block, and the sum of what the blocks missed."""
        missed = torch.zeros((), dtype=torch.float64)
        for number in range(1, 5):
            name = ("visual." if side == "visual" else "") + f"transformer.resblocks.{number - 1}"
            y = self.block(x, name, causal=side == "text")
            if adapted and self.options.ADAPTER_START <= number <= self.options.ADAPTER_END:
                adapter = f"{side}_adapter.{number}"
                seen = self.norm(x, f"{name}.ln_1") if self.options.ADAPTER_INPUT == "ln_1" else x
                hidden = self.gelu(self.linear(seen, f"{adapter}.down", self.adapters))
                y = y + self.options.ADAPTER_SCALE * self.linear(hidden, f"{adapter}.up", self.adapters)
                if self.options.REC_TARGET == "output":
                    seen = self.norm(y, f"{name}.ln_1") if self.options.ADAPTER_INPUT == "ln_1" else y
                if f"{adapter}.rec_up.weight" in self.adapters:
                    missed = missed + self.missed(seen, adapter, real)
            x = y
        return x, missed

    def image(self, images: torch.Tensor, adapted: bool = True) -> tuple:
        B, side = len(images), 4
        patches = images.double().view(B, 3, side, 8, side, 8)
        x = torch.einsum("bcyuxv,dcuv->byxd", patches, self.clip["visual.conv1.weight"]).flatten(1, 2)
        first = self.clip["visual.class_embedding"].expand(B, 1, -1)
        x = torch.cat([first, x], 1) + self.clip["visual.positional_embedding"]
        real = torch.ones(x.shape[:2], dtype=torch.bool)
        x, missed = self.tower(self.norm(x, "visual.ln_pre"), "visual", real, adapted)
        feature = self.norm(x, "visual.ln_post")[:, 0] @ self.clip["visual.proj"]
        return feature / feature.norm(dim=-1, keepdim=True), missed

    def text(self, tokens: torch.Tensor, adapted: bool = True) -> tuple:
        x = self.clip["token_embedding.weight"][tokens] + self.clip["positional_embedding"]
        ends = tokens.argmax(-1)
        x, missed = self.tower(x, "text", torch.arange(77) <= ends[:, None], adapted)
        feature = self.norm(x, "ln_final")[torch.arange(len(x)), ends] @ self.clip["text_projection"]
        return feature / feature.norm(dim=-1, keepdim=True), missed

    def loss_terms(self, images: torch.Tensor, tokens: torch.Tensor, target: torch.Tensor) -> tuple:
        """Equations (13), (16), (17); ``(B, C)`` logits before them."""
        o = self.options
        (f, missed_image), (t, missed_text) = self.image(images), self.text(tokens)
        logits = self.clip["logit_scale"].exp() * f @ t.T
        ce = -logits.log_softmax(-1)[torch.arange(len(f)), target].mean()
        width = f.shape[-1] if o.CON_REDUCTION == "mean" else 1
        gaps = [(f - self.image(images, False)[0]).abs(), (t - self.text(tokens, False)[0]).abs()]
        con = o.LAMBDA3 * gaps[0].sum(-1).mean() / width + o.LAMBDA4 * gaps[1].sum(-1).mean() / width
        return logits, {"ce": ce, "con": con, "rec": o.LAMBDA1 * missed_image + o.LAMBDA2 * missed_text}

    def gradients(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of the sum of all terms; by MMA's rule what comes through the output is divided by the scale."""
        names = list(self.adapters)
        weights = [self.adapters[name] for name in names]
        output = torch.autograd.grad(
            terms["ce"] + terms["con"], weights, retain_graph=True, allow_unused=True
        )
        rec = [None] * len(names)
        if terms["rec"].requires_grad:
            rec = torch.autograd.grad(terms["rec"], weights, allow_unused=True)
        divisor = self.options.ADAPTER_SCALE if self.options.GRADIENT_RULE == "mma" else 1
        return {
            name: (0 if one is None else one / divisor) + (0 if other is None else other)
            for name, one, other in zip(names, output, rec, strict=True)
        }

"""CLIP's transformer: blocks of OpenAI's names, on batch-first tokens.

Symbols: B batch, N tokens, D width, H heads.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.layout import Layout


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that computes half-precision input in float32 and returns the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.dtype in (torch.float16, torch.bfloat16)
        if half and x.device.type == "cpu" and self.weight.dtype == torch.float32:
            # computes in float32 too, without a wide copy that would be kept for the backward pass
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        wide = x.float() if half else x
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class _QuickGELU(torch.autograd.Function):
    """x * sigmoid(1.702 x), in one pass: the gradient of a softplus of that steepness, times x."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.ops.aten.softplus_backward(x, x, 1.702, 20)  # above 20, the sigmoid is 1

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad, 1.702 * x)


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU, x * sigmoid(1.702 x), that OpenAI trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return _QuickGELU.apply(x)


class Attention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`, on (B, N, D) tokens."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(
                f"attention of width {width} cannot have {heads} heads: take a divisor of the width"
            )
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the initial values of `nn.MultiheadAttention`, which OpenAI's image tower keeps."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Attend from every token to every token that it may see.

        Args:
            x: (B, N, D) tokens; packed texts are (T, D).
            layout: how `x` lies, where that is not (B, N, D).
        """
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3D)
        q, k, v = self.split(qkv if layout is None else layout.to_padded(qkv), 3)
        y = attend(q, k, v, causal=self.causal).transpose(1, 2).flatten(2)  # (B, N, D)
        return self.out_proj(y if layout is None else layout.to_packed(y))

    def forward_last(self, x: Tensor, layout: Layout) -> Tensor:
        """Attend from the pooled tokens alone: (B, 1, D)."""
        width = x.shape[-1]
        weights = self.in_proj_weight.split([width, 2 * width])
        biases = self.in_proj_bias.split([width, 2 * width])
        (q,) = self.split(F.linear(layout.pooled_tokens(x), weights[0], biases[0]), 1)
        k, v = self.split(layout.to_padded(F.linear(x, weights[1], biases[1])), 2)
        y = attend(q, k, v, mask=layout.visible)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Part queries, keys and values, and their heads: (B, N, parts D) to tensors (B, H, N, D/H)."""
        return x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over (B, H, N, D/H); `mask` is True where a query sees a key."""
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not (q.device.type == "cpu" and learns and q.dtype != torch.float32):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    # PyTorch's own backward pass takes 5 to 15 times as long as this one in bfloat16 on a CPU.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, N, M)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


class ResidualAttentionBlock(nn.Module):
    """One pre-norm transformer block on (B, N, D) tokens; children may be replaced by wrapping modules."""

    def __init__(self, d_model: int, n_head: int, causal: bool = False, quick_gelu: bool = True) -> None:
        super().__init__()
        self.attn = Attention(d_model, n_head, causal)
        self.ln_1 = LayerNorm(d_model)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(d_model, 4 * d_model),
                gelu=QuickGELU() if quick_gelu else nn.GELU(),
                c_proj=nn.Linear(4 * d_model, d_model),
            )
        )
        self.ln_2 = LayerNorm(d_model)

    def forward(self, x: Tensor, layout: Layout | None = None, last: bool = False) -> Tensor:
        """Run the block.

        Args:
            x: (B, N, D) tokens; packed texts are (T, D).
            layout: how `x` lies, where that is not (B, N, D).
            last: compute the pooled tokens alone, (B, 1, D); keys and values still come from every token.
        """
        if last:
            x = layout.pooled_tokens(x) + self.attn.forward_last(self.ln_1(x), layout)
        else:
            x = x + self.attn(self.ln_1(x), layout)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks; the causal mask of the text tower is inside."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, quick_gelu: bool = True
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = layers
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, causal, quick_gelu) for _ in range(layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run OpenAI's layout, (N, B, D) to (N, B, D)."""
        return self.run(x.transpose(0, 1)).transpose(0, 1)

    def run(self, x: Tensor) -> Tensor:
        """Run batch-first tokens, (B, N, D) to (B, N, D)."""
        return self.resblocks(x)

    def forward_pooled(self, x: Tensor, layout: Layout) -> Tensor:
        """Run (B, N, D) tokens or packed texts (T, D); return the pooled ones of the last block, (B, D)."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, layout)
        return last(x, layout, last=True).squeeze(1)

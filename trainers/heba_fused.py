"""HeBA's adapter with its gradient written out: ``Bottleneck.plain`` in fewer passes over memory.

Symbols: B images or prompts, N tokens, d width, h hidden width, s scale; G = dL/dy, LN' the norm's gradient.

    t = x + W_up GELU(M(W_down x)),  y = x + s LN(t)
    weights: the gradient of t is LN'(G), not s LN'(G) (the published rule)
    input:   dx = G + s LN'(G) + s W_down^T M^T GELU' W_up^T LN'(G)

The class token, which the image adapter passes by, goes through the products like all others and is put back;
it adds nothing to any gradient but its own.
"""

import math

import torch
from torch.nn import functional as F


class FusedBottleneck(torch.autograd.Function):
    """``y`` above; a text adapter has no ``mid``, and then no token passes by."""

    @staticmethod
    def forward(ctx, x, down, mid, up, weight, bias, eps: float, scale: float) -> torch.Tensor:
        """Tokens ``(…, d)``, with ``mid`` ``(B, 1 + N, d)``.

        Args:
            x: tokens.
            down: ``(h, d)``.
            mid: ``(h, 1, k, k)`` depthwise kernel, or None.
            up: ``(d, h)``.
            weight: of the norm ``(d,)``.
            bias: of the norm ``(d,)``.
            eps: of the norm.
            scale: s.
        """
        z = F.linear(x, down)
        if mid is None:
            inner = z
        else:
            z = to_grid(z[:, 1:])
            inner = F.conv2d(z, mid, padding=mid.shape[-1] // 2, groups=len(mid))
        d, hidden = x.shape[-1], gelu_tokens(inner, mid is not None)
        t = torch.addmm(x.reshape(-1, d), hidden.reshape(-1, len(down)), up.t()).view(x.shape)
        y, mean, rstd = torch.native_layer_norm(t, (d,), weight, bias, eps)
        y = torch.add(x, y, alpha=scale)
        if mid is not None:
            y[:, 0] = x[:, 0]
            rstd[:, 0] = 0  # so that these tokens have no part in the gradient of the norm
        ctx.save_for_backward(x, down, mid, up, weight, z, inner, t, mean, rstd)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        x, down, mid, up, weight, z, inner, t, mean, rstd = ctx.saved_tensors
        s, d, grad = ctx.scale, x.shape[-1], grad.contiguous()
        into_t, d_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, t, (d,), mean, rstd, weight, None, (True, True, False)
        )
        adapted = grad.new_ones(grad.shape[:-1])
        if mid is not None:
            adapted[:, 0] = 0
        d_bias = adapted.flatten() @ grad.view(-1, d)  # sums of bfloat16 make wide copies first
        flat = into_t.view(-1, d)
        hidden = gelu_tokens(inner, mid is not None)  # quicker computed again than kept
        d_up = flat.t() @ hidden.reshape(-1, hidden.shape[-1])
        d_hidden = into_t @ up
        if mid is None:
            d_mid = None
            d_z = torch.ops.aten.gelu_backward(d_hidden, inner)
        else:
            d_inner = torch.ops.aten.gelu_backward(to_grid(d_hidden[:, 1:]), inner)
            pad = (mid.shape[-1] // 2,) * 2
            d_z, d_mid, _ = torch.ops.aten.convolution_backward(
                d_inner, z, mid, None, (1, 1), pad, (1, 1), False, (0, 0), len(mid), (True, True, False)
            )
            d_z = F.pad(from_grid(d_z), (0, 0, 1, 0))
        d_z = d_z.reshape(-1, d_z.shape[-1])
        d_down = d_z.t() @ x.reshape(-1, d)
        d_x = None
        if ctx.needs_input_grad[0]:
            flat.addmm_(d_z, down)
            d_x = torch.add(grad, into_t, alpha=s, out=None if slow_in_place(into_t) else into_t)
        return d_x, d_down, d_mid, d_up, d_weight, d_bias, None, None


def slow_in_place(x: torch.Tensor) -> bool:
    """Tell whether elementwise work on ``x`` takes twice as long in place: bfloat16 on a CPU."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


def gelu_tokens(inner: torch.Tensor, image: bool) -> torch.Tensor:
    """``GELU(inner)`` as tokens ``(…, h)``; those of an image's grid behind a class token of zeros."""
    return F.pad(from_grid(F.gelu(inner)), (0, 0, 1, 0)) if image else F.gelu(inner)


def to_grid(tokens: torch.Tensor) -> torch.Tensor:
    """``(B, N, h)`` tokens as a ``(B, h, sqrt(N), sqrt(N))`` channels-last image."""
    side = math.isqrt(tokens.shape[1])
    return tokens.reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def from_grid(image: torch.Tensor) -> torch.Tensor:
    """Undoes ``to_grid``."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)

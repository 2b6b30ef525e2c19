"""CLIP's ResNet image tower: three-convolution stem, anti-aliased strides, attention pooling.

Source: Radford et al. 2021, section 2.4; names agree with openai/CLIP, clip/model.py.
Symbols: B batch, C channels, S side of the last grid, E width of the joint embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.architecture import check_image


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions; a stride is an average pool."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or inplanes != outplanes:
            conv = nn.Conv2d(inplanes, outplanes, 1, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outplanes))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.pool(y)))
        skip = x if self.downsample is None else self.downsample(self.pool(x))
        return F.relu(y + skip)


class AttentionPool2d(nn.Module):
    """Pool a grid (B, C, S, S) to (B, E): the grid's mean is the only query of one multi-head attention."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) * embed_dim**-0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=embed_dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # (B, S*S, C)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        x = F.scaled_dot_product_attention(q, k, v)  # (B, heads, 1, C/heads)
        return self.c_proj(x.flatten(1))


class ModifiedResNet(nn.Module):
    """Images (B, 3, R, R) to embeddings (B, E).

    Args:
        layers: number of blocks in each of the four stages.
        output_dim: width E of the joint embedding.
        heads: heads of the attention pool.
        input_resolution: side R of the image in pixels, a multiple of 32.
        width: channels after the stem.
    """

    def __init__(
        self, layers: Sequence[int], output_dim: int, heads: int, input_resolution: int = 224, width: int = 64
    ) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.input_resolution = input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, layers[3], stride=2)
        self.attnpool = AttentionPool2d(input_resolution // 32, 32 * width, heads, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.input_resolution)
        x = x.to(self.conv1.weight.dtype)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.avgpool(x)))))  # (B, 32 width, S, S)
        return self.attnpool(x)


def _stage(inplanes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Build one stage; only its first block changes size, and each block starts as the identity."""
    first = Bottleneck(inplanes, planes, stride)
    rest = (Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(blocks - 1))
    stage = nn.Sequential(first, *rest)
    for block in stage:
        nn.init.zeros_(block.bn3.weight)
    return stage

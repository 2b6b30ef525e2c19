"""How many floating-point operations HeBA needs, counted from shapes: what cannot be left out.

Counted are matrix products, attention and depthwise convolutions, a multiplication with its addition as two.
Not counted: padding, image or text tokens of the last block that do not leave it, gradients before the first
adapter or of frozen weights, elementwise work, anything computed again.

Symbols: D width of a tower, N tokens of each sequence, T tokens of all, S sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tower:
    """Sizes of an encoder with HeBA's adapters on all blocks.

    Attributes:
        width: D.
        layers: number of blocks.
        image: whether it reads images: attention is full and the first token of each sequence not adapted.
        embed: input values of each token that the embedding multiplies; 0 for a table of texts.
    """

    width: int
    layers: int
    image: bool
    embed: int = 0

    def forward(self, lengths: Sequence[int]) -> int:
        """Operations of the forward pass of sequences of N tokens each."""
        return (
            self.embedding(lengths) + self.frozen(lengths) + self.attention(lengths) + self.adapters(lengths)
        )

    def backward(self, lengths: Sequence[int]) -> int:
        """Of the backward pass: inputs' gradients everywhere, weights' in adapters, none before the first."""
        first = 2 * self.adapted(lengths) * self.width * self.width // 4
        return self.frozen(lengths) + 2 * self.attention(lengths) + 2 * self.adapters(lengths) - first

    def embedding(self, lengths: Sequence[int]) -> int:
        return 2 * self.adapted(lengths) * self.embed * self.width

    def adapted(self, lengths: Sequence[int]) -> int:
        """Tokens that an adapter sees."""
        return sum(lengths) - len(lengths) * self.image

    def frozen(self, lengths: Sequence[int]) -> int:
        """Queries, keys, values, output and MLP; only keys and values of all tokens in the last block."""
        tokens, square = sum(lengths), 2 * self.width**2
        return square * ((self.layers - 1) * 12 * tokens + 2 * tokens + 10 * len(lengths))

    def attention(self, lengths: Sequence[int]) -> int:
        """Scores and their products with values."""
        pairs = sum(n * n if self.image else n * (n + 1) // 2 for n in lengths)
        return 4 * self.width * ((self.layers - 1) * pairs + sum(lengths))

    def adapters(self, lengths: Sequence[int]) -> int:
        """Projections and convolution at widths D and 4D; the last wide one only on what leaves."""
        tokens, last = self.adapted(lengths), 0 if self.image else len(lengths)
        narrow, wide = (4 * d * (d // 4) + 18 * (d // 4) * self.image for d in (self.width, 4 * self.width))
        return self.layers * tokens * narrow + ((self.layers - 1) * tokens + last) * wide


@dataclass(frozen=True)
class Sizes:
    """Sizes of a CLIP ViT, as ``clip.model.CLIP`` takes them."""

    resolution: int
    patch: int
    image_width: int
    image_layers: int
    text_width: int
    text_layers: int
    embed: int

    @property
    def image_tokens(self) -> int:
        return (self.resolution // self.patch) ** 2 + 1

    @property
    def image(self) -> Tower:
        return Tower(self.image_width, self.image_layers, True, 3 * self.patch**2)

    @property
    def text(self) -> Tower:
        return Tower(self.text_width, self.text_layers, False)

    def images(self, number: int) -> list[int]:
        """Tokens of each of ``number`` images."""
        return [self.image_tokens] * number


SIZES = {
    "ViT-B/16": Sizes(224, 16, 768, 12, 512, 12, 512),
    "ViT-B/32": Sizes(224, 32, 768, 12, 512, 12, 512),
    "ViT-L/14": Sizes(224, 14, 1024, 24, 768, 12, 768),
    "tiny": Sizes(32, 8, 128, 4, 128, 4, 64),  # for tests
}

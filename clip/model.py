"""CLIP's image and text towers, with OpenAI's constructor arguments and state-dict names.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"; names
and initial values agree with openai/CLIP, clip/model.py. Symbols: B batch, N tokens, L text length, D width,
H heads, R side of the image, E width of the joint embedding.

Inside, tokens are batch-first (B, N, D). `Transformer.forward` alone keeps OpenAI's (N, B, D), because prompt
learners of the CoOp family call it so; `Transformer.run` is the same without the two transpositions.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.architecture import architecture, check_image, check_tensors
from clip.layout import ImageLayout, PackedText, end_of_text
from clip.resnet import ModifiedResNet
from clip.transformer import Attention, LayerNorm, Transformer
from clip.weights import normalise

HEAD_WIDTH = 64  # channels of one attention head, in all of OpenAI's models


class VisionTransformer(nn.Module):
    """CLIP's ViT: images (B, 3, R, R) to embeddings (B, E) of the class token."""

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        quick_gelu: bool = True,
    ) -> None:
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        tokens = (input_resolution // patch_size) ** 2 + 1  # the class token comes first
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, quick_gelu=quick_gelu)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def embed(self, image: Tensor) -> Tensor:
        """Turn images (B, 3, R, R) into the tokens (B, N, D) that enter the first block."""
        check_image(image, self.input_resolution)
        patches = self.conv1(image).flatten(2).transpose(1, 2)  # (B, N - 1, D)
        patches = patches.to(self.conv1.weight.dtype)  # under autocast the convolution gives a half precision
        cls = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        x = torch.cat([cls, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        return self.ln_pre(x)

    def forward(self, image: Tensor) -> Tensor:
        x = self.transformer.forward_pooled(self.embed(image), ImageLayout())
        return self.ln_post(x) @ self.proj


class CLIP(nn.Module):
    """Image and text tower with a joint embedding.

    Args:
        embed_dim: width E of the joint embedding.
        image_resolution: side of the square input image in pixels.
        vision_layers: number of ViT blocks, or the four stage depths of a ResNet.
        vision_width: width of the ViT, or of the ResNet's stem.
        vision_patch_size: side of a ViT patch in pixels (unused by ResNets).
        context_length: longest text in tokens.
        vocab_size: number of token ids.
        transformer_width: width of the text tower.
        transformer_heads: attention heads of the text tower.
        transformer_layers: blocks of the text tower.
        quick_gelu: OpenAI's activation; False takes the exact GELU, as most open_clip weights need.
    """

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: Sequence[int] | int,
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
        *,
        quick_gelu: bool = True,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.vocab_size = vocab_size
        if isinstance(vision_layers, int):
            self.visual = VisionTransformer(
                image_resolution,
                vision_patch_size,
                vision_width,
                vision_layers,
                vision_width // HEAD_WIDTH,
                embed_dim,
                quick_gelu,
            )
        else:
            heads = 32 * vision_width // HEAD_WIDTH
            self.visual = ModifiedResNet(vision_layers, embed_dim, heads, image_resolution, vision_width)
        self.transformer = Transformer(
            transformer_width, transformer_layers, transformer_heads, causal=True, quick_gelu=quick_gelu
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Draw the text tower's weights from normals scaled by width and depth, as OpenAI does.

        Residual outputs shrink with the square root of twice the depth, since each block adds two of them.
        """
        width, layers = self.transformer.width, self.transformer.layers
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the residual stream and of the patch convolution (float16 after `build_model`)."""
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Embed images: (B, 3, R, R) to (B, E), not normalised."""
        return self.visual(image.to(self.dtype))

    def embed_text(self, text: PackedText) -> Tensor:
        """Turn packed texts into the tokens (T, D) that enter the first block."""
        x = self.token_embedding(text.tokens) + self.positional_embedding[text.positions]
        return x.to(self.dtype)

    def encode_text(self, text: Tensor | PackedText) -> Tensor:
        """Embed texts: token ids (B, L), any L up to the context length, to (B, E), not normalised.

        The tower is causal, so cutting off what follows the end-of-text token changes nothing, and packed
        texts (`pack`) have the same features.
        """
        if isinstance(text, PackedText):
            x = self.transformer.forward_pooled(self.embed_text(text), text)
            return self.ln_final(x) @ self.text_projection
        length = text.shape[-1]
        if length > self.context_length:
            raise ValueError(
                f"text tensor has shape {tuple(text.shape)}: this CLIP takes {self.context_length} tokens at "
                "most, tokenize with that context_length"
            )
        x = self.token_embedding(text).to(self.dtype)  # (B, L, D)
        x = self.transformer.run(x + self.positional_embedding[:length].to(self.dtype))
        rows = torch.arange(x.shape[0], device=x.device)
        x = self.ln_final(x[rows, end_of_text(text)])  # (B, D)
        return x @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Compare images with texts: logits (images, texts), that is scaled cosines, and their transpose."""
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_features @ text_features.t()
        return logits, logits.t()


def convert_weights(model: nn.Module) -> None:
    """Turn the matrix weights into float16 in place: convolutions, linear maps, attention, projections.

    Norms, embeddings and the logit scale keep their precision, as in OpenAI's files.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | Attention):
            module.half()
        for name in ("proj", "text_projection"):
            parameter = getattr(module, name, None)
            if isinstance(parameter, nn.Parameter):
                parameter.data = parameter.data.half()


def build_model(
    state_dict: Mapping[str, Tensor],
    quick_gelu: bool = True,
    *,
    source: str = "state dict",
    half: bool = True,
) -> CLIP:
    """Build the CLIP that a state dict describes; evaluation mode, on the CPU.

    Args:
        state_dict: tensors under OpenAI's or open_clip's names; it is not changed.
        quick_gelu: activation the weights were trained with (OpenAI's: True).
        source: where the tensors come from, for error messages.
        half: whether matrix weights are float16, as OpenAI's function has them; else everything is float32.

    Raises:
        ValueError: a tensor is missing, unexpected or misshapen, or no supported architecture fits.
    """
    state_dict = normalise(state_dict, source)
    with torch.device("meta"):  # no time is spent on initial values that are overwritten at once
        model = CLIP(**architecture(state_dict, source), quick_gelu=quick_gelu)
    check_tensors(state_dict, model.state_dict(), source)
    if half:
        convert_weights(model)
    model.to_empty(device="cpu").load_state_dict(state_dict)
    return model.eval()

"""Learned words: vectors that stand in a prompt where words would stand (CoOp, CoCoOp, MaPLe).

Among the token ids of a prompt the learned words have negative ones, -1, -2 and so on; all others are CLIP's.
The end of text is still the highest id, so packing, trimming and evaluation in parts need not know of them.
Vectors take the place of these ids where CLIP embeds its tokens, and get position embeddings like any word.

Symbols: C classes, M learned words, D width of the text encoder, B images, L length of a text.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapt.method import Method
from adapt.options import check_number
from adapt.prompts import ClassPrompts, readable, template_prompts
from clip import clip
from clip.layout import PackedText, end_of_text
from clip.model import CLIP

STD = 0.02  # of vectors that start from no words, as CLIP's own token embeddings
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class Context:
    """The learned words of a prompt: what they start from and where they stand.

    Attributes:
        words: stand before the class name at the start, "a photo of a" or "X X X X".
        number: M; the first of ``words`` are learned, any others stay words.
        random: the vectors start from N(0, 0.02^2) instead of the words' own.
        position: where the class name stands: at the end, in the middle or in front of the learned words.
        class_specific: each class has words of its own.
    """

    words: str
    number: int
    random: bool
    position: str = "end"
    class_specific: bool = False

    @classmethod
    def read(cls, options: Any, key: str, learn_all_init_words: bool = True) -> "Context":
        """The context that a method's options describe.

        Args:
            options: ``N_CTX`` and ``CTX_INIT``; ``CLASS_TOKEN_POSITION`` and ``CSC`` if there are such.
            key: of the options, for messages.
            learn_all_init_words: every word of ``CTX_INIT`` is learned, whatever ``N_CTX`` says (CoOp,
                CoCoOp); else the first ``N_CTX`` are (MaPLe).

        Raises:
            ValueError: a value does not fit.
        """
        position = getattr(options, "CLASS_TOKEN_POSITION", "end")
        if position not in POSITIONS:
            raise ValueError(
                f'{key}.CLASS_TOKEN_POSITION is "{position}"; set it to one of {", ".join(POSITIONS)}'
            )
        check_number(options.N_CTX, f"{key}.N_CTX", 1)
        words, number = readable(options.CTX_INIT).strip(), options.N_CTX
        there = count_tokens([words])[0] if words else number
        if learn_all_init_words:
            number = there
        if number > there:
            raise ValueError(
                f'{key}.N_CTX is {number}, but CTX_INIT "{words}" has {there} words; lower N_CTX, or set '
                f'CTX_INIT "" for words that start from random vectors'
            )
        return cls(
            words=words or " ".join(["X"] * number),
            number=number,
            random=not words,
            position=position,
            class_specific=getattr(options, "CSC", False),
        )

    def texts(self, classnames: Sequence[str]) -> list[list[str]]:
        """The prompt of each class, its learned words written as the words they start from."""
        return [[f"{self.words} {readable(name)}."] for name in classnames]

    def tokenize(self, prompts: Sequence[Sequence[str]]) -> "LearnedPrompts":
        """Token ids of what ``texts`` gave, ``(C, 77)``, negative ones where learned words stand.

        Raises:
            ValueError: a prompt has more than 77 tokens.
        """
        texts = [text for (text,) in prompts]
        lengths = count_tokens([text[len(self.words) + 1 : -1] for text in texts])
        rows = clip.tokenize(texts)
        placed = [
            self.place(row, length, self.number * label * self.class_specific)
            for label, (row, length) in enumerate(zip(rows, lengths, strict=True))
        ]
        return LearnedPrompts(
            torch.stack(placed), torch.ones(len(rows), dtype=torch.long), texts=prompts, context=self
        )

    def place(self, row: torch.Tensor, name_length: int, first: int) -> torch.Tensor:
        """Puts the learned words' ids, from ``-1 - first`` down, into the ``(77,)`` tokens of a prompt."""
        learned = -1 - torch.arange(first, first + self.number, dtype=row.dtype)
        rest = row[1 + self.number :]
        before = {"end": self.number, "middle": self.number // 2, "front": 0}[self.position]
        name = 0 if self.position == "end" else name_length
        return torch.cat([row[:1], learned[:before], rest[:name], learned[before:], rest[name:]])

    def vectors(self, embedding: nn.Embedding, classes: int) -> torch.Tensor:
        """Initial vectors: ``(M, D)``, or ``(C, M, D)`` if each class has its own."""
        shape = (classes, self.number) if self.class_specific else (self.number,)
        if self.random:
            return nn.init.normal_(embedding.weight.new_empty(*shape, embedding.embedding_dim), std=STD)
        words = embedding(clip.tokenize(self.words).to(embedding.weight.device))[0, 1 : 1 + self.number]
        return words.detach().expand(*shape, -1).clone()


@dataclass
class LearnedPrompts(ClassPrompts):
    """Prompts with learned words; one for each class."""

    context: Context | None = None

    def for_classes(self, classnames: Sequence[str], template: str, default: str) -> "LearnedPrompts":
        """The learned words with other names."""
        if template:
            raise ValueError(f'template "{template}" cannot be used: this model learned its own words')
        if self.context.class_specific:
            raise ValueError(
                "this model learned words for each of its classes (CSC True), so it has none for others; "
                "use its own classes, or train with CSC False"
            )
        return self.context.tokenize(self.context.texts(classnames))


class LearnedEmbedding(nn.Module):
    """CLIP's table of token embeddings, and vectors for the negative ids.

    Args:
        embedding: CLIP's.
        vectors: ``(…, M, D)``; the id ``-1 - i`` is the i-th of them.

    Attributes:
        instead: vectors to use in their place, while there are some (CoCoOp: those of single images).
    """

    def __init__(self, embedding: nn.Embedding, vectors: nn.Parameter) -> None:
        super().__init__()
        self.embedding = embedding
        self.vectors = vectors
        self.instead: torch.Tensor | None = None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        vectors = self.vectors if self.instead is None else self.instead
        learned = F.embedding((-1 - tokens).clamp(min=0), vectors.flatten(0, -2))
        return torch.where((tokens < 0).unsqueeze(-1), learned, self.embedding(tokens.clamp(min=0)))


class PromptLearner(nn.Module):
    """The learned vectors, under their published name; CLIP embeds them from here on."""

    def __init__(self, clip_model: CLIP, context: Context, classes: int = 1) -> None:
        super().__init__()
        self.ctx = nn.Parameter(context.vectors(clip_model.token_embedding, classes))
        clip_model.token_embedding = LearnedEmbedding(clip_model.token_embedding, self.ctx)


class LearnedWords(Method):
    """A method whose prompts have learned words.

    Attributes:
        name: of the method, for messages.
        context: the learned words.
        learn_all_init_words: see ``Context.read``.
    """

    name = ""
    folder = "prompt_learner"
    published_precision = "fp16"
    learn_all_init_words = True

    def check_options(self) -> None:
        self.context = Context.read(self.options, self.key, self.learn_all_init_words)
        self.class_specific = self.context.class_specific
        if self.texts.is_own:
            template_prompts((), (self.texts.template,))  # refuses one without {}

    def remarks(self) -> list[tuple[int, str]]:
        context, asked, found = self.context, self.options.N_CTX, []
        if context.number != asked:
            text = f'{self.key}.CTX_INIT "{context.words}" makes {context.number} learned words'
            found.append((logging.INFO, f"{text}; N_CTX {asked} is not used"))
        if self.texts.is_own:
            text = f"is not used: {self.name} learns its words; {self.key}.CTX_INIT says from which it starts"
            found.append((logging.WARNING, f'DATASET.TEMPLATE "{self.texts.template}" {text}'))
        return found

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        return self.context.texts(classnames)

    def tokenize(self, prompts: Sequence[Sequence[str]]) -> LearnedPrompts:
        words = self.context.words
        if wrong := [group for group in prompts if len(group) != 1 or not group[0].startswith(f"{words} ")]:
            raise ValueError(
                f'a class has the prompts {wrong[0]!r}; with learned words it has one, "{words} <its name>."'
            )
        try:
            return self.context.tokenize(prompts)
        except ValueError as error:
            raise ValueError(
                f"the {self.context.number} learned words ({self.key}.N_CTX or CTX_INIT) and a class name "
                f"make too many tokens; lower N_CTX: {error}"
            ) from error


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Number of tokens of each text, without start and end."""
    return (end_of_text(clip.tokenize(list(texts))) - 1).tolist()


def for_each_image(text: PackedText | torch.Tensor, images: int, words: int) -> PackedText | torch.Tensor:
    """Prompts as often as there are images; the copies of the i-th image have learned words of their own.

    Args:
        text: C prompts, packed or ``(C, L)``, with ids from -1 to ``-words``.
        images: B.
        words: M.

    Returns:
        B x C prompts, image after image; the id -1 - m has become ``-1 - (i * M + m)``.
    """
    tokens = text.tokens if isinstance(text, PackedText) else text
    image = torch.arange(images, device=tokens.device).unsqueeze(1)  # (B, 1)
    shift = words * image.view(-1, *[1] * tokens.dim())
    tokens = torch.where(tokens < 0, tokens - shift, tokens).flatten(0, 1)
    if not isinstance(text, PackedText):
        return tokens
    texts, _, _, length = text.visible.shape
    return PackedText(
        tokens=tokens,
        positions=text.positions.repeat(images),
        slots=(text.slots + texts * length * image).flatten(),
        fillers=(text.fillers + len(text.tokens) * image).flatten(),
        ends=(text.ends + len(text.tokens) * image).flatten(),
        visible=text.visible.repeat(images, 1, 1, 1),
    )

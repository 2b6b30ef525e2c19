"""CLIP's byte-pair tokenizer: the ids of openai/CLIP, clip/simple_tokenizer.py.

The vocabulary file is read from the installed package open_clip_torch, which is not imported for it.
"""

import gzip
import html
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ftfy
import regex

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 49408
WORD_END = "</w>"

# Contractions, runs of letters, single digits, runs of anything else; case is ignored.
_WORDS = regex.compile(
    "|".join(
        [
            regex.escape(START),
            regex.escape(END),
            r"'(?:s|t|re|ve|m|ll|d)",
            r"\p{L}+",
            r"\p{N}",
            r"[^\s\p{L}\p{N}]+",
        ]
    ),
    regex.IGNORECASE,
)


def vocabulary_path() -> Path:
    """Find the vocabulary file inside the installed open_clip_torch.

    Raises:
        FileNotFoundError: the package or its file is absent; says how to install it.
    """
    spec = find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / VOCABULARY
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"CLIP's vocabulary {VOCABULARY} comes with the package open_clip_torch, which is not installed "
        "here: pip install open_clip_torch"
    )


def byte_symbols() -> dict[int, str]:
    """Give each byte a visible character, in vocabulary order; printable Latin-1 stands for itself."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@lru_cache(maxsize=2)
def _read_merges(path: Path) -> dict[tuple[str, str], int]:
    """Read the merge rules as {pair: rank}; the first line is a comment, the last lines are unused."""
    count = VOCAB_SIZE - 2 * 256 - 2
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")[1 : count + 1]
        merges = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not readable as CLIP's vocabulary ({error}); reinstall open_clip_torch"
        ) from error
    if len(merges) != count or any(len(pair) != 2 for pair in merges):
        raise ValueError(
            f"{path}: holds {len(merges)} merge rules, CLIP's has {count}; reinstall open_clip_torch"
        )
    return merges


class SimpleTokenizer:
    """Text to token ids and back.

    Attributes:
        encoder: token string to id; words end in `</w>`.
        decoder: id to token string.
    """

    def __init__(self, bpe_path: str | Path | None = None) -> None:
        self.merges = _read_merges(Path(bpe_path) if bpe_path else vocabulary_path())
        self.byte_encoder = byte_symbols()
        self.byte_decoder = {symbol: byte for byte, symbol in self.byte_encoder.items()}
        single = list(self.byte_encoder.values())
        tokens = [*single, *(symbol + WORD_END for symbol in single), *map("".join, self.merges), START, END]
        self.encoder = {token: i for i, token in enumerate(tokens)}
        self.decoder = dict(enumerate(tokens))
        self._known = {START: [self.encoder[START]], END: [self.encoder[END]]}  # ids of the words met so far

    def encode(self, text: str) -> list[int]:
        """Tokenize one text, without the start and end tokens."""
        return [token for word in _WORDS.findall(clean(text)) for token in self._encode_word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn token ids back into lower-case text, a space after each word."""
        symbols = "".join(self.decoder[int(token)] for token in tokens)
        text = bytes(self.byte_decoder[symbol] for symbol in symbols).decode("utf-8", errors="replace")
        return text.replace(WORD_END, " ")

    def _encode_word(self, word: str) -> list[int]:
        if word not in self._known:
            symbols = [self.byte_encoder[byte] for byte in word.encode("utf-8")]
            symbols[-1] += WORD_END
            self._known[word] = [self.encoder[symbol] for symbol in self._merge(symbols)]
        return self._known[word]

    def _merge(self, symbols: list[str]) -> list[str]:
        """Apply the merge rules, best rank first, until none fits."""
        while len(symbols) > 1:
            best = min(pairwise(symbols), key=self._rank)
            if best not in self.merges:
                break
            merged = symbols[:1]
            for symbol in symbols[1:]:
                if (merged[-1], symbol) == best:
                    merged[-1] += symbol
                else:
                    merged.append(symbol)
            symbols = merged
        return symbols

    def _rank(self, pair: tuple[str, str]) -> int:
        return self.merges.get(pair, VOCAB_SIZE)


def clean(text: str) -> str:
    """Repair broken Unicode, resolve HTML entities (also doubly escaped), squeeze blanks, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", text).strip().lower()

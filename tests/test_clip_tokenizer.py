"""The tokenizer gives the ids of the field's tokenizer, on whatever text."""

import importlib.util
import json
import random
from functools import cache
from pathlib import Path

import pytest
import torch

import clip
from clip import simple_tokenizer
from clip.simple_tokenizer import SimpleTokenizer

ODD_TEXTS = [
    "",
    " ",
    "\t\n  \r",
    "a",
    "A photo of a CAT.",
    "don't you'll we've I'm he'd it's they're ISN'T",
    "''s 'S 's't",
    "numbers 1234567890 3.14159 1e-5 ½ ² Ⅷ ٣٤٥",
    "Boeing 737-800, DHC-8-100; F/A-18!!! ... ???",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; &quot;quoted&quot; &#39;x&#39; &nbsp;end &amp;lt;",
    "a < b &amp;amp; c &amp;amp;lt; d &#28;e&#133;f",
    "it'ſ long s, K kelvin, ﬅ",
    "naïve café Ñandú straße İstanbul ﬁne ligature",
    "cafe\u0301 e\u0301\u0302 zero\u200bwidth soft\u00adhyphen nbsp\u00a0here",
    "schÃ¶n âœ” mojibake",
    "漢字かな交じり文 한국어 العربية עברית हिन्दी ไทย",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️ 🇩🇪",
    "<|startoftext|> inside <|endoftext|> and <|EndOfText|>",
    "<start_of_text> <|other|> </w> word</w>",
    "under_score-hyphen/slash\\back@mail.com #tag $5 100% C++ a.k.a.",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaa abababababababab !!!!!!!!!!!!!!!! ----",
    "\ufeffbom \u2028line\u2029para \x00nul \x1besc \x85nel",
    "‘curly’ “quotes” – dash — em… ellipsis",
]


@cache
def reference():
    """The tokenizer of open_clip, with OpenAI's spelling of the two special tokens."""
    import open_clip.tokenizer as theirs

    tokenizer = theirs.SimpleTokenizer()
    special = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    tokenizer.encoder.update(special)
    tokenizer.cache.update({token: token for token in special})
    tokenizer.pat = theirs.re.compile(
        tokenizer.pat.pattern.replace("<start_of_text>|<end_of_text>", r"<\|startoftext\|>|<\|endoftext\|>"),
        theirs.re.IGNORECASE,
    )
    return tokenizer


@cache
def ours() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_gets_the_reference_ids(text: str):
    assert ours().encode(text) == reference().encode(text)


def test_random_text_gets_the_reference_ids():
    draw = random.Random(0)
    alphabets = [
        "abcdefghijklmnop  '",
        "".join(map(chr, range(32, 0x250))),
        "éÅßñ漢字かな😀👍🏽 ُ١٢&;#<>|'\"a1 ",
    ]
    for i in range(600):
        text = "".join(draw.choices(alphabets[i % 3], k=draw.randrange(60)))
        assert ours().encode(text) == reference().encode(text), repr(text)


def test_class_descriptions_get_the_reference_ids(assets: Path):
    texts = []
    for file in sorted((assets / "real" / "descriptions").glob("*.json")):
        for lines in json.loads(file.read_text()).values():
            texts += [lines] if isinstance(lines, str) else lines
    assert len(texts) > 100
    for text in texts[::10]:
        assert ours().encode(text) == reference().encode(text), text


def test_vocabulary_has_the_published_size_and_ends():
    assert len(ours().encoder) == len(ours().decoder) == 49408
    assert ours().encoder["<|startoftext|>"] == 49406
    assert ours().encoder["<|endoftext|>"] == 49407
    assert ours().encode("hello world!") == [3306, 1002, 256]


def test_decode_gives_the_words_back():
    assert (
        ours().decode(ours().encode("A Photo of a naïve 漢字 😀 cat.")) == "a photo of a naïve 漢字 😀 cat . "
    )
    assert ours().decode(torch.tensor([49406, 3306, 49407])) == "<|startoftext|>hello <|endoftext|>"


def test_tokenize_frames_and_pads_each_text():
    tokens = clip.tokenize(["a diagram", "a dog and a cat"])
    assert tokens.shape == (2, 77)
    assert tokens.dtype == torch.int32
    assert tokens[0, :5].tolist() == [49406, 320, 22697, 49407, 0]
    assert torch.equal(clip.tokenize("a diagram"), tokens[:1])
    assert clip.tokenize(["a"], context_length=5).shape == (1, 5)
    assert clip.tokenize([]).shape == (0, 77)


def test_too_long_text_is_an_error_that_quotes_it_unless_truncated():
    import open_clip

    text = "very " * 80 + "long"
    with pytest.raises(ValueError, match=r"text of 83 tokens .* 77: \"very very .*truncate=True"):
        clip.tokenize(["short", text])
    tokens = clip.tokenize(["short", text], truncate=True)
    assert tokens[1, -1] == 49407
    assert torch.equal(tokens.long(), open_clip.tokenize(["short", text]))


def test_what_is_no_text_is_an_error_that_shows_it():
    with pytest.raises(ValueError, match="cannot tokenize 7"):
        clip.tokenize(["a", 7])


def test_absent_vocabulary_is_an_error_with_the_pip_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simple_tokenizer, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install open_clip_torch"):
        SimpleTokenizer()


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_damaged_vocabulary_is_an_error_that_names_the_file(tmp_path: Path, content: bytes):
    path = tmp_path / "vocabulary.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="vocabulary.gz"):
        SimpleTokenizer(path)


def test_vocabulary_is_found_without_importing_its_package():
    spec = importlib.util.find_spec("open_clip")
    assert simple_tokenizer.vocabulary_path().parent == Path(spec.origin).parent

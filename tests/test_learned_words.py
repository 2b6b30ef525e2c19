"""Prompt learners: where their vectors stand, what they start from, and how the models with them behave."""

import pytest
import torch
from torch.nn import functional as F

from adapt.learned_words import Context, for_each_image
from adapt.method import warn_of_unlearned_words
from adapt.model import adapter_weights
from adapt.prompts import ClassTexts
from clip import clip
from clip.layout import pack
from clip.model import CLIP
from tests.goldens import CLASSES, LABELS, build, goldens, method
from trainers.clip_trainer import ClipTrainer
from trainers.cocoop import CoCoOp
from trainers.coop import CoOp
from trainers.maple import MaPLe

WORDS = {"CTX_INIT": "a photo of a"}
METHODS = [(CoOp, WORDS), (CoCoOp, WORDS), (MaPLe, {"PROMPT_DEPTH": 3})]
ALL = pytest.mark.parametrize(("trainer", "values"), METHODS, ids=[method.__name__ for method, _ in METHODS])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def context(trainer: type[ClipTrainer], **values: object) -> Context:
    return method(trainer, **values).context


def spell(row: torch.Tensor) -> str:
    """Tokens as text, learned words by their number."""
    decoder = clip._tokenizer().decoder
    end = int(row.argmax())
    words = [str(int(token)) if token < 0 else decoder[int(token)] for token in row[1:end]]
    return " ".join(words).replace("</w>", "")


# Where the words stand
@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("end", "-1 -2 -3 grand piano ( old )."),
        ("middle", "-1 grand piano ( old ). -2 -3"),
        ("front", "grand piano ( old ). -1 -2 -3"),
    ],
)
def test_the_class_name_stands_where_it_should(position: str, expected: str) -> None:
    """A name's last token may hold the full stop too, as in the published code's count of its tokens."""
    where = Context("X X X", 3, random=True, position=position)
    prompts = where.tokenize(where.texts(["ant", "grand_piano_(old)"]))
    assert spell(prompts.tokens[1]) == expected
    assert prompts.counts.tolist() == [1, 1]


def test_each_class_has_words_of_its_own() -> None:
    where = Context("X X", 2, random=True, class_specific=True)
    tokens = where.tokenize(where.texts(["ant", "crab"])).tokens
    assert [spell(row) for row in tokens] == ["-1 -2 ant .", "-3 -4 crab ."]


def test_words_that_are_not_learned_stay() -> None:
    where = context(MaPLe)
    assert spell(where.tokenize(where.texts(["ant"])).tokens[0]) == "-1 -2 of a ant ."


def test_initial_words_go_before_their_number_and_the_log_says_so() -> None:
    learns = method(CoOp, N_CTX=16, CTX_INIT="a_photo_of_a")
    found = learns.context
    assert (found.words, found.number, found.random) == ("a photo of a", 4, False)
    ((_, said),) = learns.remarks()
    assert said == 'TRAINER.COOP.CTX_INIT "a photo of a" makes 4 learned words; N_CTX 16 is not used'
    silent = method(CoOp, N_CTX=16), method(CoCoOp, N_CTX=4, CTX_INIT="a photo of a")
    assert [found.context.number for found in silent] == [16, 4]
    assert silent[0].context.words == " ".join(["X"] * 16)
    assert not any(found.remarks() for found in silent)


@pytest.mark.parametrize(
    ("trainer", "values", "message"),
    [
        (CoOp, {"CLASS_TOKEN_POSITION": "back"}, 'COOP.CLASS_TOKEN_POSITION is "back"; set it to one of end'),
        (CoCoOp, {"N_CTX": 0}, "TRAINER.COCOOP.N_CTX is 0; set it to a number >= 1"),
        (MaPLe, {"N_CTX": 5}, 'MAPLE.N_CTX is 5, but CTX_INIT "a photo of a" has 4 words; lower N_CTX'),
    ],
)
def test_values_that_do_not_fit_are_refused(
    trainer: type[ClipTrainer], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        context(trainer, **values)


def test_a_prompt_that_is_too_long_is_refused() -> None:
    where = context(CoOp, N_CTX=75)
    with pytest.raises(ValueError, match="does not fit context length 77"):
        where.tokenize(where.texts(["ant"]))


@pytest.mark.parametrize("depth", [0, 5])
def test_maples_depth_must_fit_the_encoders(depth: int) -> None:
    with pytest.raises(ValueError, match=f"PROMPT_DEPTH is {depth}; set it to 1 to 4, this CLIP's blocks"):
        build(MaPLe, PROMPT_DEPTH=depth)


# What they start from, and how many they are
def test_random_vectors_are_drawn_as_published() -> None:
    models = build(CoOp, N_CTX=16), build(CoOp, CSC=True)
    shared, own = (model.adapter_learner.ctx.detach() for model in models)
    assert shared.shape == (16, 128)
    assert own.shape == (12, 16, 128)
    for vectors in (shared, own):
        assert vectors.std() == pytest.approx(0.02, rel=0.05)
        assert vectors.mean() == pytest.approx(0, abs=0.001)


def test_words_of_each_class_can_start_from_given_ones() -> None:
    expected = goldens("coop")["ctxv1/ctx_init_from_words"]
    vectors = build(CoOp, CSC=True, **WORDS).adapter_learner.ctx
    assert torch.equal(vectors, expected.expand(12, -1, -1))


def test_maples_maps_start_alike_and_its_deep_prompts_at_random() -> None:
    learner = build(MaPLe, PROMPT_DEPTH=4).adapter_learner
    deep = torch.stack(list(learner.compound_prompts_text)).detach()
    assert deep.shape == (3, 2, 128)
    assert deep.std() == pytest.approx(0.02, rel=0.1)
    first, *others = learner.compound_prompt_projections
    assert all(torch.equal(first.weight, other.weight) for other in others)
    assert len({proj.weight.data_ptr() for proj in learner.compound_prompt_projections}) == 3
    assert not torch.equal(first.weight, learner.proj.weight)
    assert first.weight.detach().std() == pytest.approx(
        (3 * 128) ** -0.5, rel=0.02
    )  # uniform within 1 / sqrt(128)


# The model
@pytest.mark.parametrize("trainer", [CoOp, CoCoOp])
def test_a_resnets_prompts_are_learned_too(trainer: type[ClipTrainer]) -> None:
    torch.manual_seed(2)  # with which not all hidden units of CoCoOp's network are off
    resnet = CLIP(64, 64, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2).eval()
    model = build(trainer, CLASSES, resnet, **WORDS)
    logits = model(torch.randn(2, 3, 64, 64), model.prompts.draw(torch.arange(12)))
    F.cross_entropy(logits, LABELS[:2]).backward()
    assert logits.shape == (2, 12)
    assert all(weight.grad.any() for weight in adapter_weights(model).values())


@pytest.mark.parametrize(("at_once", "passes"), [(1, [1] * 6), (200, [2, 2, 2]), (8192, [6])])
def test_cocoop_encodes_no_more_text_at_once_than_it_may(
    images: torch.Tensor, at_once: int, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve prompts of 7 to 9 tokens for each image, and at least one image."""
    monkeypatch.setattr("trainers.cocoop.TOKENS_AT_ONCE", at_once)
    model, seen = build(CoCoOp, **WORDS), []
    encode = model.encode_text
    monkeypatch.setattr(
        model, "encode_text", lambda text: (seen.append(len(text.ends) / 12), encode(text))[1]
    )
    with torch.no_grad():
        model(images)
    assert seen == passes


def test_prompts_of_single_images_are_packed_as_if_tokenized_so() -> None:
    where = Context("X X", 2, random=True)
    tokens = where.tokenize(where.texts(["ant", "grand piano", "crab"])).tokens
    shifted = torch.cat([torch.where(tokens < 0, tokens - 2 * image, tokens) for image in range(3)])
    assert torch.equal(for_each_image(tokens, 3, 2), shifted)
    found, expected = for_each_image(pack(tokens), 3, 2), pack(shifted)
    for name in ("tokens", "positions", "slots", "ends", "visible"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_learned_words_are_not_said_to_be_unknown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the demo's CLIP only the words that stay are asked about."""
    asked = []
    monkeypatch.setattr("adapt.method.unlearned_words", lambda model, tokens: asked.extend(tokens.tolist()))
    where = context(CoOp, **WORDS)
    warn_of_unlearned_words(None, where.tokenize(where.texts(["ant"])))
    start, ant, stop, end = clip.tokenize("ant.")[0, :4].tolist()
    assert [number for number in asked if number] == [start, ant, stop, end]


def test_a_template_is_not_used_and_said_so() -> None:
    ((_, text),) = method(CoOp, ClassTexts("an aerial photo of {}.", is_own=True)).remarks()
    assert 'DATASET.TEMPLATE "an aerial photo of {}." is not used: CoOp learns its words' in text
    with pytest.raises(ValueError, match="no braces"):
        method(CoOp, ClassTexts("no braces", is_own=True))


def test_too_many_learned_words_are_told_by_their_key() -> None:
    with pytest.raises(ValueError, match="the 80 learned words .TRAINER.COOP.N_CTX or CTX_INIT"):
        build(CoOp, N_CTX=80)

"""What keeps tensors from being a model's."""

import pytest
import torch

from fileio.tensors import tensor_problems

EXPECTED = {"weight": torch.ones(2, 3), "bias": torch.ones(2), "steps": torch.tensor(3)}


def test_the_expected_tensors_have_no_problem_in_whatever_precision() -> None:
    assert tensor_problems(EXPECTED, EXPECTED) == {}
    halves = {name: t.half() if t.is_floating_point() else t for name, t in EXPECTED.items()}
    assert tensor_problems(halves, EXPECTED) == {}


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"bias": None}, {"missing": ["bias"]}),
        ({"more": torch.ones(1)}, {"unexpected": ["more"]}),
        ({"weight": torch.ones(3, 2)}, {"of another shape": ["weight (3, 2) instead of (2, 3)"]}),
        ({"bias": torch.ones(2).int()}, {"of another kind": ["bias torch.int32 instead of torch.float32"]}),
        ({"steps": torch.tensor(2.5)}, {"of another kind": ["steps torch.float32 instead of torch.int64"]}),
        ({"bias": torch.tensor([1.0, float("nan")])}, {"with NaN or infinity": ["bias"]}),
        (
            {"weight": torch.full((2,), float("inf")), "bias": None},
            {
                "missing": ["bias"],
                "of another shape": ["weight (2,) instead of (2, 3)"],
                "with NaN or infinity": ["weight"],
            },
        ),
    ],
)
def test_each_problem_names_its_tensors(
    change: dict[str, torch.Tensor | None], problems: dict[str, list[str]]
) -> None:
    given = {name: tensor for name, tensor in (EXPECTED | change).items() if tensor is not None}
    assert tensor_problems(given, EXPECTED) == problems

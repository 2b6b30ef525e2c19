"""The published numbers in the project: as they were read, and marked where they contradict themselves."""

import csv

import pytest

from reporting import published
from reporting.published import Number

CELLS = [
    (kind, method, dataset, column, number)
    for kind in published.COLUMNS
    for method, rows in published.load(kind).items()
    for dataset, row in rows.items()
    for column, number in row.items()
]


def lines(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_number_is_a_percentage_of_a_known_data_set_with_a_source():
    assert len(CELLS) > 600
    for kind, method, dataset, _, number in CELLS:
        assert 0 < number.value < 100
        assert number.source
        assert method
        assert dataset in {*published.ROWS[kind], "imagenet", "average"}


@pytest.mark.parametrize("kind", published.COLUMNS)
def test_the_files_hold_every_number_that_was_read(assets, kind):
    there = {(line["method"], line["dataset"]): line for line in lines(published.FOLDER / f"{kind}.csv")}
    read = lines(assets / "facts" / f"{kind}.csv")
    assert len(there) == len(read)
    for line in read:
        method = line["method"].replace("LwEIB(repo rerun)", "LwEIB-repository")
        kept = there[method, line["dataset"]]
        columns = published.COLUMNS[kind].values()
        assert [kept[column] for column in columns] == [line[column] for column in columns]


def test_exactly_the_known_contradictions_of_hm_are_marked(assets):
    known = {(line["method"], line["dataset"]) for line in lines(assets / "facts/hm_mismatches.csv")}
    marked = {(m, d) for kind, m, d, column, number in CELLS if column == "HM" and number.contradiction}
    assert marked == known


def test_averages_that_are_not_those_of_their_cells_are_marked():
    marked = {
        (k, m, c): n.contradiction
        for k, m, d, c, n in CELLS
        if c != "HM" and n.contradiction and d == "average"
    }
    assert marked == {
        ("base2new", "MMA", "Novel"): "76.80 is printed, the 11 cells have the mean 76.94",
        ("cross_dataset", "RMAdapter", "Accuracy"): "67.56 is printed, the 10 cells have the mean 67.18",
        ("domain_generalization", "MaPLe", "Accuracy"): "60.26 is printed, the 4 cells have the mean 60.27",
    }


@pytest.mark.parametrize(
    ("stated", "is_wrong"), [(66.67, False), (66.66, False), (66.65, True), (66.68, True)]
)
def test_rounding_is_no_contradiction(stated, is_wrong):
    row = {"Base": Number(50.0, ""), "Novel": Number(100.0, ""), "HM": Number(stated, "")}
    assert bool(published.wrong_hm(row)) == is_wrong


def test_a_printed_average_stands_only_beside_the_papers_data_sets():
    eleven = list(published.ROWS["base2new"])
    assert published.average("base2new", "LwEIB", eleven, "HM").value == 81.21  # its cells are not known
    assert published.average("base2new", "LwEIB", eleven[1:], "HM") is None
    assert published.average("base2new", "MaPLe", eleven, "Base").value == 82.28
    assert published.average("base2new", "MaPLe", ["dtd", "eurosat"], "Base").value == pytest.approx(87.215)
    assert published.average("base2new", "MaPLe", [*eleven, "demo"], "Base") is None
    assert published.average("base2new", "HeBA", ["dtd"], "Novel").value == 70.20


def test_unknown_methods_and_data_sets_have_no_numbers():
    assert published.lookup("base2new", "MaPLe", "demo", "HM") is None
    assert published.lookup("few_shot", "MaPLe", "dtd", "HM") is None
    assert published.average("few_shot", "MaPLe", ["dtd"], "1 shot") is None
    assert published.choose(["lweib", "MMA++"]) == ["LwEIB", "MMA++"]

"""How tables are shown: formats, published numbers beside ours, marks and notes."""

import csv
import io
import json
from pathlib import Path

import pytest

import parse_test_res
from tests.result_trees import experiment, write_protocols, write_results

pytestmark = pytest.mark.usefixtures("written_run")


def parse(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """Output of the command line, which must succeed."""
    assert parse_test_res.main([str(arg) for arg in argv]) == 0
    return capsys.readouterr().out


def base2new(root: Path, dataset: str, base: float, novel: float, trainer: str = "HeBA", **more) -> None:
    """One seed of both halves."""
    write_results(root / experiment("train_base", dataset, trainer) / "seed1", base, **more)
    write_results(root / experiment("test_new", dataset, trainer) / "seed1", novel, **more)


def row(text: str, name: str) -> list[str]:
    """The cells of a row of the first table, dashes and all."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [cell for cell in line.replace("  ", "\t").split("\t") if cell]


def strip(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def test_published_numbers_stand_beside_with_the_difference(tmp_path, capsys):
    base2new(tmp_path, "eurosat", 95.0, 80.0)
    base2new(tmp_path, "dtd", 80.0, 70.5)
    out = parse(capsys, tmp_path, "--vs", "HeBA", "lweib")
    assert out.splitlines()[2].split() == [
        "Data",
        "set",
        "Base",
        "Novel",
        "HM",
        "Seeds",
        *["HeBA"] * 3,
        *["LwEIB"] * 2,
    ]
    # HM of 95 and 80 is 86.86, LwEIB's published one
    ours = ["95.00", "80.00", "86.86", "1/1"]  # one seed has no spread
    beside = ["95.43 (-0.43)", "—", "88.16 (-1.30)", "—", "86.86 (-0.00)"]
    assert strip(row(out, "eurosat")) == ["eurosat", *ours, *beside]
    assert strip(row(out, "dtd"))[5:] == ["—", "70.20 (+0.30)", "—", "67.83 (+2.67)", "—"]


def test_the_printed_average_stands_beside_all_eleven_data_sets_only(tmp_path, capsys):
    write_protocols(tmp_path / "ten", list(parse_test_res.published.ROWS["cross_dataset"]), seeds=1)
    content = json.loads(parse(capsys, tmp_path / "ten/base2new", "--format", "json", "--vs", "HeBA", "CoOp"))
    average = content[0]["rows"][-1]
    assert average["name"] == "Average"
    assert average["published"]["HeBA"] == {}
    assert average["published"]["CoOp"]["Base"]["value"] == pytest.approx(83.308)  # computed over the ten
    base2new(tmp_path / "ten", "imagenet", 77.0, 71.0)
    content = json.loads(parse(capsys, tmp_path / "ten/base2new", "--format", "json", "--vs", "HeBA", "CoOp"))
    average = content[0]["rows"][-1]
    assert {column: number["value"] for column, number in average["published"]["HeBA"].items()} == {
        "Novel": 78.62,
        "HM": 81.35,
    }
    assert average["published"]["CoOp"]["Base"]["value"] == 82.69


def test_data_sets_of_the_demo_have_no_published_numbers_beside(tmp_path, capsys):
    for dataset in ("demo", "demo_dark"):
        base2new(tmp_path, dataset, 80.0, 70.0)
    out = parse(capsys, tmp_path, "--vs", "MaPLe")
    for name in ("demo ", "demo_dark", "Average"):
        assert strip(row(out, name))[-1] == "—"
    assert "published numbers" not in out
    assert "HeBA\n" not in parse(capsys, tmp_path)  # nor columns that nobody asked for


def test_a_contradicting_published_number_is_marked_and_explained(tmp_path, capsys):
    base2new(tmp_path, "ucf101", 87.0, 80.0)
    out = parse(capsys, tmp_path, "--vs", "MMA", "CoOp")
    assert strip(row(out, "ucf101"))[-4] == "82.20† (+1.15)"
    notes = [line for line in out.splitlines() if line.startswith("†")]
    assert notes == [
        "† MMA ucf101: HM 82.20 is printed, base 86.23 and novel 80.03 give 83.01 (VACSR paper Table 9)"
    ]


@pytest.mark.parametrize(
    ("flags", "shots", "note"),
    [
        (["--keyword", "macro_f1"], 16, "they are accuracies of CLIP ViT-B/16 after 16 shots"),
        ([], 4, "they are accuracies of CLIP ViT-B/16 after 16 shots"),
    ],
)
def test_other_things_are_not_compared_with_published_accuracies(tmp_path, capsys, flags, shots, note):
    folder = tmp_path / experiment("train_base", "dtd", shots=shots) / "seed1"
    write_results(folder, 80.0, macro_f1=79.0, shots=shots)
    out = parse(capsys, tmp_path, "--vs", "MaPLe", *flags)
    assert "80.36" not in out
    assert f"published numbers are not set beside these: {note}" in out


def test_another_backbone_is_told_in_the_overview_too(tmp_path, capsys):
    for trainer in ("HeBA", "CoOp"):
        base2new(tmp_path, "dtd", 80.0, 70.0, trainer, backbone="my_clip.pt")
    table, overview = parse(capsys, tmp_path, "--vs", "MaPLe").split("all methods")
    assert "published numbers are of CLIP ViT-B/16; these runs had my_clip.pt\n" in table
    assert "MaPLe (published)" in overview
    assert "these runs had my_clip.pt\n" in overview


def test_a_method_is_compared_with_its_own_published_results(tmp_path, capsys):
    base2new(tmp_path, "dtd", 53.24, 59.90, trainer="ZeroshotCLIP")
    assert "53.24 (+0.00)" in parse(capsys, tmp_path)
    assert "53.24 (" not in parse(capsys, tmp_path, "--vs")


def test_costs_are_columns_if_asked_for(tmp_path, capsys):
    write_protocols(tmp_path, ["dtd"], seeds=1)
    out = parse(capsys, tmp_path / "base2new", "--cost", "--vs")
    assert strip(row(out, "dtd"))[-4:] == ["87,158,016", "60.0", "4.5", "3,072"]
    overview = out[out.index("Base to novel, all methods") :]
    assert strip(row(overview, "HeBA"))[-4:] == ["87,158,016", "60.0", "4.5", "3,072"]
    assert "Training s" not in parse(capsys, tmp_path / "base2new").split("all methods")[0]


def test_the_methods_of_one_data_set_are_one_table_with_spreads_seeds_and_costs(tmp_path, capsys):
    write_protocols(tmp_path, ["dtd"])
    untold = {"phases": None, "trainable_parameters": None}
    base2new(tmp_path, "dtd", 70.0, 60.0, trainer="CoOp", **untold)
    tree = tmp_path / "base2new"
    overview = parse(capsys, tree, "--vs", "MaPLe").split("Base to novel, all methods")[1]
    assert overview.startswith(": accuracy in %, mean ± population std over seeds\n")
    costs = ["87,158,016", "60.0", "4.5", "3,072"]
    assert strip(row(overview, "HeBA"))[1:] == ["80.60 ± 0.24", "75.60 ± 0.24", "78.02 ± 0.25", "3/3", *costs]
    assert strip(row(overview, "CoOp"))[4:] == ["1/1", "—", "—", "—", "—"]
    assert strip(row(overview, "ZeroshotCLIP"))[5:] == ["0", "—", "4.5", "2,048"]
    assert strip(row(overview, "MaPLe"))[1:] == ["80.36", "59.18", "68.16", "—", "—", "—", "—"]
    for style, mark in (
        ("markdown", "87,158,016 |"),
        ("latex", "87,158,016 &"),
        ("csv", ",87158016.0,60.0,"),
    ):
        assert mark in parse(capsys, tree, "--format", style, "--vs")
    found = json.loads(parse(capsys, tree, "--format", "json", "--vs"))[-1]
    assert found["overview"]
    assert [line["cost"].get("train_seconds") for line in found["rows"]] == [None, 60.0, None]
    assert found["rows"][1]["cells"]["Base"]["seeds"] == ["1", "2", "3"]


def test_zero_shot_clip_is_shown_without_shots(tmp_path, capsys):
    base2new(tmp_path, "dtd", 53.24, 59.90, trainer="ZeroshotCLIP", eval_only=True)
    for half in ("train_base", "test_new"):
        for shots in (1, 4):
            write_results(tmp_path / experiment(half, "dtd", shots=shots) / "seed1", 80)
    out = parse(capsys, tmp_path, "--vs")
    assert "Base to novel: ZeroshotCLIP base2new, " + str(tmp_path) in out
    overview = out[out.index("all methods") :]
    names = [line.split("  ")[0] for line in overview.splitlines()]
    assert [name for name in names if "base2new" in name] == [
        "HeBA base2new, 1 shot",
        "HeBA base2new, 4 shots",
        "ZeroshotCLIP base2new",
    ]


def test_markdown(tmp_path, capsys):
    base2new(tmp_path, "eurosat", 85.0, 50.0)
    out = parse(capsys, tmp_path, "--format", "markdown", "--vs", "MaPLe")
    assert out.startswith("### Base to novel: HeBA base2new, 16 shots, ")
    assert "| Data set   |   Base |   Novel |    HM |   Seeds |    MaPLe Base |" in out
    assert "| eurosat    |  85.00 |   50.00 | 62.96 |     1/1 | 94.07 (-9.07) |" in out
    assert "\n- published numbers: " in out


def test_a_bar_in_a_name_ends_no_cell_in_markdown(tmp_path, capsys):
    base2new(tmp_path, "a | 99.99 |", 85.0, 50.0)
    out = parse(capsys, tmp_path, "--format", "markdown")
    assert r"| a \| 99.99 \| |  85.00 |   50.00 |" in out


def test_latex(tmp_path, capsys):
    base2new(tmp_path, "oxford_pets", 85.0, 50.0)
    base2new(tmp_path, "ucf101", 85.0, 50.0)
    write_results(tmp_path / experiment("train_base", "oxford_pets") / "seed2", 85.0)
    write_results(tmp_path / experiment("train_base", "dtd") / "seed1", 70)
    out = parse(capsys, tmp_path, "--format", "latex", "--vs", "MMA")
    table = "\n".join(line for line in out.splitlines() if not line.startswith("%"))
    assert table.startswith("\\begin{tabular}{lrrrrrrr}\n\\toprule")
    assert r"oxford\_pets & 85.00 $\pm$ 0.00 &" in table
    assert r"82.20$^{\dagger}$ (-19.24)" in table
    assert not set(table) & set("±—†")


def test_spreads_are_shown_and_explained_only_where_there_are_several_seeds(tmp_path, capsys):
    base2new(tmp_path, "dtd", 80.0, 70.0)
    for flags in ([], ["--ci95"]):
        out = parse(capsys, tmp_path, *flags)
        assert "±" not in out
        assert "1.96" not in out
    assert (
        json.loads(parse(capsys, tmp_path, "--format", "json"))[0]["rows"][0]["cells"]["Base"]["spread"]
        is None
    )
    (line,) = csv.DictReader(io.StringIO(parse(capsys, tmp_path, "--format", "csv", "--vs")))
    assert (line["Base"], line["Base spread"], line["HM spread"]) == ("80.0", "", "")
    write_results(tmp_path / experiment("train_base", "dtd") / "seed2", 81.0)
    out = parse(capsys, tmp_path)
    assert "mean ± population std over seeds" in out
    assert strip(row(out, "dtd"))[1:3] == ["80.50 ± 0.50", "70.00"]


def test_csv_has_full_precision_and_a_line_for_each_row(tmp_path, capsys):
    for seed in (1, 2):
        for half, accuracy in (("train_base", 85.0), ("test_new", 50.0)):
            write_results(tmp_path / experiment(half, "eurosat") / f"seed{seed}", accuracy)
    write_results(tmp_path / "few_shot/dtd/shots_1/HeBA/base2new/seed1", 60)
    lines = list(csv.DictReader(io.StringIO(parse(capsys, tmp_path, "--format", "csv", "--vs", "MaPLe"))))
    assert [(line["kind"], line["name"]) for line in lines] == [("base2new", "eurosat"), ("few_shot", "dtd")]
    assert float(lines[0]["HM"]) == pytest.approx(2 * 85 * 50 / 135)
    assert (lines[0]["trainer"], lines[0]["shots"], lines[0]["Base seeds"]) == ("HeBA", "16", "1 2")
    assert float(lines[0]["MaPLe Base difference"]) == pytest.approx(-9.07)
    assert (lines[1]["1 shot"], lines[1]["Base"], lines[1]["MaPLe Base"]) == ("60.0", "", "")
    assert {line["contradictions"] for line in lines} == {""}


def test_csv_tells_which_published_numbers_contradict_themselves(tmp_path, capsys):
    base2new(tmp_path, "ucf101", 87.0, 80.0)
    assert parse_test_res.main([str(tmp_path), "--format", "csv", "--vs", "MMA", "CoOp"]) == 0
    said = capsys.readouterr()
    (line,) = csv.DictReader(io.StringIO(said.out))
    assert line["contradictions"] == "MMA HM 82.20 is printed, base 86.23 and novel 80.03 give 83.01"
    assert "published numbers: in brackets" in said.err


def test_a_narrow_terminal_gets_the_published_columns_below(tmp_path, capsys, monkeypatch):
    base2new(tmp_path, "eurosat", 85.0, 50.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    out = parse(capsys, tmp_path, "--vs", "MaPLe", "CoOp")
    rows = [line for line in out.splitlines() if line.startswith("eurosat")]
    assert len(rows) == 3
    assert max(map(len, rows)) <= 80
    assert [len(strip(row("\n".join([line]), "eurosat"))) for line in rows] == [5, 4, 4]

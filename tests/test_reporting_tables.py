"""Tables of runs: where they are found, what goes into which cell, and the arithmetic."""

import json
import re
from pathlib import Path

import pytest

from reporting.layout import find_places
from reporting.tables import Row, Table, make_tables, overviews
from tests.result_trees import (
    details,
    experiment,
    in_folder,
    theirs,
    with_accuracy,
    write_log,
    write_protocols,
    write_results,
    written,
)

pytestmark = pytest.mark.usefixtures("written_run")


def read(*roots: Path, **options) -> list[Table]:
    return make_tables(find_places(roots)[0], **options)


def only(root: Path, **options) -> tuple[dict[str, Row], list[str]]:
    """The rows by name and the notes of the only table."""
    (table,) = read(root, **options)
    return {row.name: row for row in table.rows}, table.notes


def untold() -> dict:
    """What a record of a run says that tells nothing of what it took."""
    return {"phases": None, "trainable_parameters": None}


def means(row: Row) -> dict[str, float]:
    return {column: cell.mean for column, cell in row.cells.items()}


@pytest.fixture
def root(tmp_path) -> Path:
    """Two data sets, two seeds: base 80 and 90, novel 60 and 40 for eurosat; 50, 50 and 100, 100 for zoo."""
    root = tmp_path / "output"
    for dataset, base, novel in (("zoo", (50, 50), (100, 100)), ("eurosat", (80, 90), (60, 40))):
        for seed in (1, 2):
            write_results(root / experiment("train_base", dataset) / f"seed{seed}", base[seed - 1])
            write_results(root / experiment("test_new", dataset) / f"seed{seed}", novel[seed - 1])
    return root


# Base to novel.


def test_hm_is_of_the_means_and_its_spread_of_the_seeds(root):
    rows, notes = only(root)
    assert list(rows) == ["eurosat", "zoo", "Average"]  # the papers' order, then the alphabet
    base, novel, hm = (rows["eurosat"].cells[column] for column in ("Base", "Novel", "HM"))
    assert (base.mean, base.spread, base.seeds) == (85, 5, ["1", "2"])
    assert (novel.mean, novel.spread, novel.seeds) == (50, 10, ["1", "2"])
    # of the means 2·85·50/135; of the seeds 2·80·60/140 and 2·90·40/130, half their difference apart
    assert hm.mean == pytest.approx(62.96296, abs=1e-5)
    assert hm.spread == pytest.approx((68.571429 - 55.384615) / 2, abs=1e-5)
    assert rows["zoo"].cells["HM"].mean == pytest.approx(200 / 3)
    # means over the data sets, and HM of those: 2·67.5·75/142.5
    average = means(rows["Average"])
    assert (average["Base"], average["Novel"]) == (67.5, 75)
    assert average["HM"] == pytest.approx(71.052632, abs=1e-5)
    assert notes == []
    ci95, _ = only(root, ci95=True)
    assert ci95["eurosat"].cells["Base"].spread == pytest.approx(1.96 * 5 / 2**0.5)


def test_seeds_that_differ_are_told(root):
    write_results(root / experiment("train_base", "eurosat") / "seed3", 85)
    rows, notes = only(root)
    assert rows["eurosat"].cells["HM"].seeds == ["1", "2"]
    assert rows["eurosat"].cells["Base"].seeds == ["1", "2", "3"]
    assert len(notes) == 1
    assert notes[0].startswith("eurosat: base has the seeds 1, 2, 3, novel 1, 2: ")


def test_what_is_missing_stays_out_of_the_average(root):
    write_results(root / experiment("train_base", "dtd") / "seed1", 10)
    write_log(root / experiment("test_new", "dtd") / "seed1/log.txt", "")
    rows, notes = only(root)
    assert rows["Average"].cells["Base"].mean == 67.5
    assert list(rows["dtd"].cells) == ["Base"]
    assert any("test_new/dtd/shots_16/HeBA/base2new/seed1: log.txt: " in note for note in notes)
    assert "Average: of the 2 data sets that have both base and novel results" in notes


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"shots": 4}, "DATASET.NUM_SHOTS is 4, not 16"),
        ({"split": "val"}, "it was evaluated on val, not on test"),
        ({"subsample_classes": "few"}, "DATASET.SUBSAMPLE_CLASSES is few, not base"),
        (
            {"eval_only": True, "model_dir": "output/imagenet/HeBA/x2d_16shots/seed1"},
            "its model was trained on imagenet (model_dir output/imagenet/HeBA/x2d_16shots/seed1)",
        ),
    ],
)
def test_a_run_of_something_else_than_its_column_is_not_counted(root, told, why):
    if told.get("eval_only"):  # a training run would be read before a test
        (root / experiment("train_base", "eurosat") / "seed1/results.json").unlink()
    write_results(root / experiment("train_base", "eurosat") / "seed2", 99, **told)
    rows, notes = only(root)
    assert [cell.mean for name, cell in rows["eurosat"].cells.items() if name == "Base"] == (
        [] if told.get("eval_only") else [80]
    )
    assert any(note.endswith(f"seed2: {why}") for note in notes)


def test_the_runs_own_data_set_seed_and_classes_decide_not_the_folders_name(tmp_path):
    folder = tmp_path / experiment("train_base", "eurosat") / "seed1"
    write_results(folder, 80, dataset="DescribableTextures", seed=7, subsample_classes="new")
    rows, notes = only(tmp_path)
    assert list(rows) == ["dtd"]
    assert (means(rows["dtd"]), rows["dtd"].cells["Novel"].seeds) == ({"Novel": 80}, ["7"])
    told = "results.json says data set DescribableTextures, seed 7, new classes"
    assert notes[0] == f"{folder}: not what the folder's name says: {told}"
    write_results(folder, 80, dataset="DescribableTextures", subsample_classes="all")
    (table,) = read(tmp_path)
    assert (table.key.kind, means(table.rows[0])) == ("few_shot", {"16 shots": 80})


def test_names_of_data_sets_that_only_look_different_are_one(tmp_path):
    for folder, name in (("oxford_pets", "OxfordPets"), ("my-birds", "MyBirds"), ("flowers", "ImageFolder")):
        write_results(tmp_path / experiment("train_base", folder) / "seed1", 80, dataset=name)
    # own pictures in a folder that is called as a published data set: not comparable with it
    write_results(tmp_path / experiment("train_base", "dtd") / "seed1", 80, dataset="ImageFolder")
    rows, notes = only(tmp_path)
    assert set(rows) == {"oxford_pets", "my-birds", "flowers", "ImageFolder", "Average"}
    (note,) = [note for note in notes if "folder's name" in note]
    assert note.endswith("says data set ImageFolder")


def test_of_two_runs_of_the_same_one_counts_and_the_other_is_named(root):
    moved = root / experiment("train_base", "ucf101") / "seed1"
    write_results(moved, 10, dataset="EuroSAT")
    copy = root / experiment("train_base", "eurosat") / "seed_1"
    write_results(copy, 20)
    rows, notes = only(root)
    assert rows["eurosat"].cells["Base"].mean == 85
    first = root / experiment("train_base", "eurosat") / "seed1"
    for folder in (moved, copy):
        assert f"not counted: {folder}: of the same data set, classes and seed is {first}" in notes


def test_the_other_scale_gets_its_column(root):
    for dataset, other in (("eurosat", 52.0), ("zoo", 90.0)):
        for seed in (1, 2):
            scale = json.loads(written("novel", "results.json"))["other"]
            scale["base_scale"] = with_accuracy(scale["base_scale"], other + seed)
            write_results(root / experiment("test_new", dataset) / f"seed{seed}", 60, other=scale)
    rows, _ = only(root)
    assert rows["eurosat"].cells["Novel (base scale)"].mean == 53.5
    assert rows["Average"].cells["Novel (base scale)"].mean == 72.5


def test_a_column_that_lacks_a_data_set_has_no_average(root):
    for seed in (1, 2):
        other = {"base_scale": {"accuracy": 50}}
        write_results(root / experiment("test_new", "zoo") / f"seed{seed}", 60, other=other)
    rows, _ = only(root)
    assert rows["zoo"].cells["Novel (base scale)"].mean == 50
    assert list(rows["Average"].cells) == ["Base", "Novel", "HM"]


def test_trainers_and_shots_get_tables_of_their_own(root):
    for shots in (4, 16):
        for half in ("train_base", "test_new"):
            write_results(root / experiment(half, "dtd", "CoOp", "ctx", shots) / "seed1", 70)
    assert [(t.method, t.key.shots) for t in read(root)] == [
        ("CoOp ctx", 4),
        ("CoOp ctx", 16),
        ("HeBA base2new", 16),
    ]


# The other protocols.


def test_a_source_stands_with_its_targets_and_outside_their_average(tmp_path):
    write_protocols(tmp_path, ["caltech101", "dtd"], seeds=2)
    tables = {table.key.kind: table for table in read(tmp_path) if table.key.trainer == "HeBA"}
    assert list(tables) == ["base2new", "cross_dataset", "domain_generalization", "few_shot"]
    for kind, targets in (
        ("cross_dataset", ["caltech101", "dtd"]),
        ("domain_generalization", ["imagenetv2", "imagenet_a"]),
    ):
        rows = {row.name: row for row in tables[kind].rows}
        assert list(rows) == ["imagenet", *targets, "Average"]
        assert tables[kind].key.source == "imagenet"
        assert rows["imagenet"].cells["Accuracy"].mean == pytest.approx(71.15)
        assert rows["Average"].cells["Accuracy"].mean == pytest.approx(60.15)
    assert tables["few_shot"].columns == ["1 shot", "4 shots", "16 shots"]


def test_targets_of_different_sources_are_not_mixed(tmp_path):
    for target, source, accuracy in (("dtd", "imagenet", 40), ("eurosat", "caltech101", 30)):
        model = tmp_path / source / "HeBA/x2d_16shots/seed1"
        write_results(model, 70)
        write_results(
            tmp_path / f"evaluation/HeBA/x2d_16shots/{target}/seed1", accuracy, model_dir=str(model)
        )
    found = {table.key.source: [row.name for row in table.rows] for table in read(tmp_path)}
    assert found == {"caltech101": ["caltech101", "eurosat"], "imagenet": ["imagenet", "dtd"]}


def test_the_source_of_untrained_targets_is_the_only_possible_one(tmp_path):
    write_results(tmp_path / "demo/ZeroshotCLIP/vit_b16_16shots/seed1", 70, eval_only=True)
    for target in ("demo_cold", "demo_colour_shape"):
        write_results(tmp_path / f"evaluation/ZeroshotCLIP/vit_b16_16shots/{target}/seed1", 60)
    found = {table.key.kind: (table.key.source, [row.name for row in table.rows]) for table in read(tmp_path)}
    assert found == {
        "cross_dataset": ("demo", ["demo", "demo_colour_shape"]),
        "domain_generalization": ("demo", ["demo", "demo_cold"]),
    }


def test_claps_targets_lie_beside_their_source_and_have_its_trainer(tmp_path):
    config = "SGD_lr1e-1_B256_ep300_ZSInit_l2Constraint"
    tree = tmp_path / "output/FINAL/debug"
    source = tree / f"imagenet/{config}_16shots/seed1"
    write_results(source, 70, trainer="ADAPTER")
    for dataset in ("imagenet_a", "dtd"):
        folder = tree / f"{dataset}/{config}_16shots/seed1"
        write_results(folder, 60, trainer="ADAPTER", eval_only=True, model_dir=str(source))
    write_results(tree / f"eurosat/{config}_16shots/seed1", 80, trainer="ADAPTER")  # few-shot on itself
    found = {table.key.kind: table for table in read(tmp_path)}
    assert {table.method for table in found.values()} == {f"ADAPTER {config}"}
    rows = {kind: {row.name: means(row) for row in table.rows} for kind, table in found.items()}
    assert rows == {
        "cross_dataset": {"imagenet": {"Accuracy": 70}, "dtd": {"Accuracy": 60}},
        "domain_generalization": {"imagenet": {"Accuracy": 70}, "imagenet_a": {"Accuracy": 60}},
        "few_shot": {"eurosat": {"16 shots": 80}},
    }


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("xd/imagenet/TextRefiner/c_16shots", "evaluation/xd/TextRefiner/c_16shots/dtd"),
        ("output_img/imagenet/HPT/xd_shots_16", "output_img/evaluation/HPT/xd_shots_16/dtd"),
    ],
)
def test_sources_and_targets_of_textrefiner_and_hpt_make_one_table(tmp_path, source, target):
    write_log(tmp_path / source / "seed1/log.txt", in_folder(tmp_path / source / "seed1", "70.0"))
    folder = tmp_path / target / "seed1"
    # their scripts give the targets no number of shots, and end the model's folder with a slash
    log = in_folder(folder, "60.0", NUM_SHOTS="-1", model_dir=f"output/{source}/seed1/")
    write_log(folder / "log.txt", log)
    (table,) = read(tmp_path)
    assert (table.key.kind, table.key.source, table.key.shots) == ("cross_dataset", "imagenet", 16)
    assert {row.name: means(row) for row in table.rows} == {
        "imagenet": {"Accuracy": 70},
        "dtd": {"Accuracy": 60},
    }
    assert table.notes == []


COOP = "CoOp rn50 nctx16_cscFalse_ctpend"
XD = "vit_b16_c2_ep5_batch4_2ctx_cross_datasets"
FEW = "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"


@pytest.mark.parametrize(
    ("path", "kind", "method", "column"),
    [
        ("base2new/train_base/dtd/shots_16/LwEIB/base2new/seed1", "base2new", "LwEIB base2new", "Base"),
        ("base2new/test_new/dtd/shots_16/MultiModalAdapter/seed1", "base2new", "MultiModalAdapter", "Novel"),
        ("dtd/CoOp/rn50_8shots/nctx16_cscFalse_ctpend/seed2", "few_shot", COOP, "8 shots"),
        ("evaluation/CoOp/rn50_16shots/nctx16_cscFalse_ctpend/dtd/seed2", "cross_dataset", COOP, "Accuracy"),
        (f"evaluation/MaPLe/{XD}_16shots/dtd/seed3", "cross_dataset", f"MaPLe {XD}", "Accuracy"),
        (f"dtd/PromptSRC/{FEW}_4shots/seed1", "few_shot", f"PromptSRC {FEW}", "4 shots"),
        ("base2new/train_base/dtd/shots_16_8.0/KgCoOp/rn/seed2", "base2new", "KgCoOp rn 8.0", "Base"),
        ("o_4_eval/base2new/test_new/dtd/shots_16_1.0/TCP/vit/seed3", "base2new", "TCP vit 1.0", "Novel"),
        ("base2new/train_base/dtd/shots_16/DPC/vit/seed_1", "base2new", "DPC vit", "Base"),
        ("B2N/train_base/dtd/HPT/b2n_shots_16/seed1", "base2new", "HPT b2n", "Base"),
        ("B2N/test_new/dtd/HPT/b2n_shots_16/seed1", "base2new", "HPT b2n", "Novel"),
        (
            "base2new/test_new/dtd/TextRefiner/c_16shots/nctx4/seed1",
            "base2new",
            "TextRefiner c nctx4",
            "Novel",
        ),
        ("ZeroshotCLIP/vit_b16/dtd", "few_shot", "ZeroshotCLIP vit_b16", "0 shots"),
    ],
)
def test_the_familys_folders_are_known(tmp_path, path, kind, method, column):
    is_test = column in ("Novel", "Accuracy", "0 shots")
    classes = {"Base": "base", "Novel": "new"}.get(column, "all")
    told = {"NAME": "DescribableTextures", "trainer": method.split()[0], "SUBSAMPLE_CLASSES": classes}
    shots = re.search(r"shots_(\d+)|(\d+)shots", path)
    told |= {"seed": path[-1] if path[-1].isdigit() else "None", "model_dir": ""}
    told |= {"NUM_SHOTS": next(filter(None, shots.groups())) if shots else "-1"}
    log = theirs("70.0", "novel" if is_test else "base", **told)
    write_log(tmp_path / path / "log.txt", log)
    (table,) = read(tmp_path)
    assert table.notes == []
    assert (table.key.kind, table.method) == (kind, method)
    assert [row.name for row in table.rows] == ["dtd"]
    assert means(table.rows[0]) == {column: 70}


def test_a_folder_that_only_looks_like_a_zero_shot_run_is_a_stray(tmp_path):
    write_log(tmp_path / "my/own/dtd/log.txt", theirs("70.0", "novel"))
    assert find_places([tmp_path])[:2] == ([], {tmp_path / "my/own/dtd": "is not where the scripts put runs"})


def test_trees_some_levels_below_are_found_each_with_its_tables(root, tmp_path):
    run = "dtd/shots_16/HeBA/base2new/seed1"
    for tree in ("a/b/c/d/e", "a/f"):
        write_results(tmp_path / tree / "base2new/train_base" / run, 70)
    for passed_by in ("a/f/base2new/train_base/dtd/shots_16/HeBA/base2new/seed1/model", ".trash"):
        write_results(tmp_path / passed_by / "train_base" / run, 10)
    (tmp_path / "z").symlink_to(root)
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "log.txt").write_text("")  # e.g. of nohup
    roots = [str(table.key.root.relative_to(tmp_path).parent) for table in read(tmp_path)]
    assert roots == ["a/b/c/d/e", "a/f", "output"]
    assert find_places([tmp_path])[1] == {}


def test_the_published_logs_make_tables_tree_by_tree(assets):
    found = {str(t.key.root.relative_to(assets / "real/logs")): t.rows for t in read(assets / "real/logs")}
    trees = [f"HeBA/{tree}output/base2new" for tree in ("bestval/", "crashed/", "mixed/", "", "resumed/")]
    trees += [f"LwEIB/{tree}output/base2new" for tree in ("crashed/", "", "resumed/")]
    assert list(found) == trees
    assert found["LwEIB/output/base2new"][-1].cells["HM"].mean == pytest.approx(12.81, abs=0.005)
    assert [row.name for row in found["HeBA/crashed/output/base2new"]] == ["caltech101"]
    assert found["HeBA/crashed/output/base2new"][0].cells == {}


# What runs took, and all methods in one table.


def test_costs_are_means_over_the_training_runs(tmp_path):
    for seed, seconds in ((1, 60.0), (2, 40.0)):
        phases = {
            "train": {"seconds": seconds, "seconds_before": 10.0, "peak_memory": 9, "peak_gpu_memory": 700},
            "test": {"seconds": 4.0, "peak_memory": 9, "peak_gpu_memory": 800},
        }
        more = {"trainable_parameters": 12, "phases": phases}
        write_results(tmp_path / experiment("train_base", "dtd") / f"seed{seed}", 80, **more)
        phases = {"test": {"seconds": 1000.0}}
        write_results(tmp_path / experiment("test_new", "dtd") / f"seed{seed}", 80, phases=phases)
    rows, _ = only(tmp_path)
    assert rows["dtd"].cost == {"parameters": 12, "train_seconds": 60, "test_seconds": 4, "memory": 800}


def test_the_overview_compares_methods_over_what_all_of_them_have(tmp_path):
    write_protocols(tmp_path, ["caltech101", "dtd", "eurosat"], seeds=1)
    for half in ("train_base", "test_new"):
        for dataset, accuracy in (("dtd", 70), ("caltech101", 90), ("ucf101", 10)):
            write_results(tmp_path / experiment(half, dataset, "CoOp", "ctx") / "seed1", accuracy, **untold())
    write_results(
        tmp_path / experiment("train_base", "dtd", "KgCoOp", "x") / "seed1", 1
    )  # not complete anywhere
    table = overviews(read(tmp_path), ["MaPLe", "LwEIB"])[0]
    assert (table.key.kind, table.is_overview) == ("base2new", True)
    rows = {row.name: means(row) for row in table.rows}
    assert list(rows) == ["CoOp ctx", "HeBA base2new", "ZeroshotCLIP vit_b16", "MaPLe (published)"]
    assert rows["CoOp ctx"] == {"Base": 80, "Novel": 80, "HM": 80}
    # caltech101 97.74 and 94.36, dtd 80.36 and 59.18: their means, and HM of these
    assert rows["MaPLe (published)"]["Base"] == pytest.approx(89.05)
    assert rows["MaPLe (published)"]["HM"] == pytest.approx(2 * 89.05 * 76.77 / (89.05 + 76.77))
    assert table.rows[1].cost["parameters"] == 87_158_016
    assert table.notes == [
        "averages over 2 data sets: caltech101, dtd",
        "left out, without a complete data set in common with the others: KgCoOp x",
    ]


def test_demo_and_real_runs_get_overviews_of_their_own(tmp_path):
    for folder, dataset in (("output", "dtd"), ("output/demo", "demo")):
        for trainer in ("HeBA", "CoOp"):
            for half in ("train_base", "test_new"):
                run = tmp_path / folder / experiment(half, dataset, trainer) / "seed1"
                write_results(run, 70, **details(trainer))
    found = [table.rows[0].datasets for table in overviews(read(tmp_path / "output"), [])]
    assert sorted(found) == [["demo"], ["dtd"]]


def test_an_overview_of_one_data_set_keeps_spreads_and_seeds(tmp_path):
    write_protocols(tmp_path, ["dtd", "eurosat"])
    for half in ("train_base", "test_new"):
        for seed, accuracy in ((1, 70), (2, 90)):
            folder = tmp_path / experiment(half, "dtd", "CoOp", "ctx") / f"seed{seed}"
            write_results(folder, accuracy, **untold())
    table = overviews(read(tmp_path), ["MaPLe"])[0]
    rows = {row.name: row for row in table.rows}
    novel = rows["CoOp ctx"].cells["Novel"]
    assert (novel.mean, novel.spread, novel.seeds) == (80, 10, ["1", "2"])
    assert rows["CoOp ctx"].cells["HM"].spread == 10
    assert rows["HeBA base2new"].cells["Base"].seeds == ["1", "2", "3"]
    assert rows["HeBA base2new"].cost["train_seconds"] == 60
    assert rows["CoOp ctx"].cost == {}
    assert rows["MaPLe (published)"].cells["Base"].spread is None


def test_an_overview_without_a_common_data_set_is_none(tmp_path):
    for dataset, trainer in (("dtd", "HeBA"), ("ucf101", "CoOp")):
        for half in ("train_base", "test_new"):
            write_results(tmp_path / experiment(half, dataset, trainer) / "seed1", 70, **details(trainer))
    assert overviews(read(tmp_path), []) == []

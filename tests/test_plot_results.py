"""Pictures of runs, and the page: complete in itself, and shown by a browser."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.dom import minidom

import pytest

pytest.importorskip("matplotlib", minversion="3.8", reason="pictures need matplotlib (the extra plots)")

import plot_results
from reporting import plots
from reporting.curves import class_changes, losses
from reporting.layout import find_places
from reporting.plots.accuracy import draw_bars, draw_few_shot, draw_scatter
from reporting.plots.runs import draw_class_changes, loss_curves
from reporting.read import Run
from reporting.tables import make_tables
from tests.result_trees import (
    cut,
    experiment,
    make_record,
    theirs,
    write_log,
    write_protocols,
    write_results,
    written,
)

pytestmark = pytest.mark.usefixtures("written_run")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = {
    "base2new_hm",
    "base2new_scatter",
    "cross_dataset_accuracy",
    "domain_generalization_accuracy",
    "few_shot",
    "training",
    *(
        f"classes_{kind}_HeBA_base2new_{name}"
        for kind in ("base2new", "few_shot")
        for name in ("dtd", "eurosat")
    ),
}


@pytest.fixture(scope="module")
def output(tmp_path_factory, written_run) -> Path:
    """Runs of all protocols on two data sets."""
    output = tmp_path_factory.mktemp("runs") / "output"
    write_protocols(output, ["dtd", "eurosat"], seeds=2)
    return output


@pytest.fixture(scope="module")
def report(output, tmp_path_factory) -> tuple[Path, Path]:
    """The folder of pictures and the page that the command line writes."""
    folder = tmp_path_factory.mktemp("report")
    argv = [str(output), "--out", str(folder / "plots"), "--html", str(folder / "report.html")]
    assert plot_results.main(argv) == 0
    return folder / "plots", folder / "report.html"


def tables_of(output: Path) -> list:
    return make_tables(find_places([output])[0])


def test_each_picture_is_written_as_png_and_svg(report):
    names = {path.name for path in report[0].iterdir()}
    assert names == {f"{name}.{suffix}" for name in PICTURES for suffix in ("png", "svg")}


def test_bars_have_the_tables_heights_and_differ_in_grey(output):
    tables = [table for table in tables_of(output) if table.key.kind == "base2new"]
    axes = draw_bars(tables, ["MaPLe"], "HM").axes[0]
    heights = [[bar.get_height() for bar in group] for group in axes.containers if hasattr(group, "patches")]
    ours = [[row.cells["HM"].mean for row in table.rows] for table in tables]
    assert heights[:2] == ours
    assert heights[2][:2] == [68.16, 82.35]  # MaPLe's HM on DTD and EuroSAT
    hatches = [group[0].get_hatch() for group in axes.containers if hasattr(group, "patches")]
    assert len(set(hatches)) == 3
    greys = {tuple(group[0].get_facecolor()) for group in axes.containers if hasattr(group, "patches")}
    lightness = sorted(0.299 * r + 0.587 * g + 0.114 * b for r, g, b, _ in greys)
    assert min(b - a for a, b in zip(lightness, lightness[1:], strict=False)) > 0.1


def test_no_sign_is_cut_by_the_frame(output):
    axes = draw_scatter([t for t in tables_of(output) if t.key.kind == "base2new"], []).axes[0]
    low, high = axes.get_xlim()
    assert axes.get_ylim() == (low, high)
    points = [point for signs in axes.collections for point in signs.get_offsets().ravel()]
    assert min(points) - low >= 0.03 * (high - low)
    assert high - max(points) >= 0.03 * (high - low)


def test_one_seed_has_no_error_bar(tmp_path):
    for half in ("train_base", "test_new"):
        for dataset, seeds in (("dtd", 1), ("eurosat", 2)):
            for seed in range(1, seeds + 1):
                write_results(tmp_path / experiment(half, dataset) / f"seed{seed}", 80.0 + seed)
    figure = draw_bars(tables_of(tmp_path), [], "HM")
    bars = next(group for group in figure.axes[0].containers if hasattr(group, "patches"))
    lines = [line for line in bars.errorbar.lines[2][0].get_segments() if len(line)]
    assert [line[1][1] - line[0][1] for line in lines] == pytest.approx([1.0])  # eurosat's alone


def test_few_shot_curves_have_the_tables_points(output):
    tables = [table for table in tables_of(output) if table.key.kind == "few_shot"]
    panels = {panel.get_title(): panel for panel in draw_few_shot(tables).axes}
    assert list(panels) == ["Average", "dtd", "eurosat"]
    line = panels["dtd"].containers[0].lines[0]
    assert list(line.get_xdata()) == [1, 3, 5]  # 1, 4 and 16 shots, evenly; zero-shot stands at 0
    (row,) = (row for row in tables[0].rows if row.name == "dtd")
    assert list(line.get_ydata()) == [row.cells[name].mean for name in ("1 shot", "4 shots", "16 shots")]


def test_losses_are_the_means_of_the_epochs_from_all_logs(tmp_path):
    log = written("base", "log.txt")
    found = re.findall(r"^epoch \[(\d)/3\].* loss \S+ \(([\d.]+)\)", log, re.MULTILINE)
    means = {int(epoch): float(loss) for epoch, loss in found}  # the last line of each epoch counts
    assert sorted(means) == [1, 2, 3]
    write_log(tmp_path / "log.txt", cut(log, "epoch [2/3]").replace(f"({found[1][1]})", "(9.0)"))
    resumed = "\n".join(line for line in log.split("\n") if not line.startswith("epoch [1/3]"))
    write_log(tmp_path / "log.txt-2026-01-02-00-00-00", resumed)
    assert losses(Run(tmp_path)) == means
    write_log(tmp_path / "log.txt-2026-01-03-00-00-00", log.replace(f"({found[2][1]})", "(nan)"))
    assert losses(Run(tmp_path)) == means  # nan is no number


def test_losses_of_published_logs_are_read(assets):
    for trainer in ("HeBA", "LwEIB"):
        curves = loss_curves(tables_of(assets / "real/logs" / trainer / "output"))
        assert list(curves) == ["caltech101, base classes", "oxford_pets, base classes"]
        for lines in curves.values():
            assert [label for label, _ in lines] == [f"{trainer} base2new"]
            assert [list(seed) for seed in lines[0][1]] == [[1, 2]] * 3


def test_class_changes_are_against_zero_shot_on_the_same_classes(tmp_path):
    for half, before, after in (("train_base", (4, 5), (8, 5)), ("test_new", (10, 10), (9, 5))):
        for trainer, hits in (("ZeroshotCLIP", before), ("HeBA", after)):
            told = json.loads(written("base", "results.json"))["per_class"][:2]
            classes = [
                entry | {"classname": name, "correct": correct, "total": 10}
                for entry, name, correct in zip(told, ("ant", "bee"), hits, strict=True)
            ]
            folder = tmp_path / experiment(half, "dtd", trainer) / "seed1"
            told = {"per_class": classes, "correct": sum(hits), "total": 20}
            told |= {"eval_only": True} if trainer != "HeBA" else {}
            write_results(folder, 5 * sum(hits), **told)
    found = class_changes(tables_of(tmp_path))
    assert [(dataset, column, changes) for _, dataset, column, changes in found] == [
        ("dtd", "Base", {"ant": 40, "bee": 0}),
        ("dtd", "Novel", {"ant": -10, "bee": -50}),
    ]
    figure = draw_class_changes(found)
    assert figure.axes[0].get_title() == "Base: 1 better, 0 worse of 2"
    bars = figure.axes[1].patches
    assert [bar.get_width() for bar in bars] == [-50, -10]
    assert {bar.get_hatch() for bar in bars} == {"////"}


def test_the_same_runs_give_the_same_svg(output, tmp_path):
    tables = [table for table in tables_of(output) if table.key.kind == "domain_generalization"]
    for name in ("a", "b"):
        plots.save(plots.draw_all(tables, ["MaPLe"]), tmp_path / name)
    first = (tmp_path / "a/domain_generalization_accuracy.svg").read_bytes()
    assert first == (tmp_path / "b/domain_generalization_accuracy.svg").read_bytes()


class Links(HTMLParser):
    """Whatever a page would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_loads_nothing_from_elsewhere(report):
    page = report[1].read_text("utf-8")
    links = Links(page).found
    assert len(links) == len(PICTURES)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not re.search(r"@import|url\(|<script", page)
    for link in links:
        assert base64.b64decode(link.split(",")[1]).startswith(b"<?xml")


def test_the_page_has_tables_and_exact_commands(report, output):
    page = report[1].read_text("utf-8")
    assert page.count("<table>") == 2 + 6  # overviews, then a table for each method and protocol
    assert "python plot_results.py " in page
    command = json.loads(written("base", "results.json"))["command"]
    assert command.startswith("python train.py --root ")
    assert f"<pre>{html.escape(command)}</pre>" in page
    assert "p y t h o n" not in page
    heads = re.findall(r"<p>dtd, (\w+), seed (\d)", page[page.index("HeBA base2new") :])
    assert heads[:4] == [("Base", "1"), ("Base", "2"), ("Novel", "1"), ("Novel", "2")]
    assert str(output) in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on PATH: the page is not looked at")
def test_chromium_shows_the_page_without_a_network(report, tmp_path):
    from PIL import Image

    look = "[...document.images].filter(image => image.complete && image.naturalWidth > 100).length"
    script = f"<script>addEventListener('load', () => document.title = 'shown ' + {look})</script>"
    page = tmp_path / "page.html"
    page.write_text(report[1].read_text("utf-8") + script, "utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,6000"]
    run = [*command, "--dump-dom", page.as_uri()]
    dom = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"<title>shown {len(PICTURES)}</title>" in dom
    run = [*command, f"--screenshot={tmp_path / 'page.png'}", page.as_uri()]
    subprocess.run(run, capture_output=True, timeout=120, check=True)
    picture = Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("L")
    assert picture.size == (1600, 6000)
    dark = picture.point(lambda value: 255 * (value < 128))
    left, top, right, bottom = dark.getbbox()
    assert right - left > 1000  # the tables' width
    assert bottom - top > 3000


# What goes wrong.


EVIL = "\x1b]0;x\x07\x9b31m\n\uffff$\\frac$<b>"


def test_names_from_records_do_no_harm_in_pictures_page_and_terminal(tmp_path, capsys):
    for half in ("train_base", "test_new"):
        for trainer in ("ZeroshotCLIP", EVIL):
            folder = tmp_path / EVIL / experiment(half, "dtd", trainer) / "seed1"
            classes = make_record(folder, 80.0)["per_class"]
            classes = [entry | {"classname": entry["classname"] + EVIL} for entry in classes]
            told = {"per_class": classes, "command": f"python {EVIL}", "eval_only": half == "test_new"}
            write_results(folder, 80.0, trainer=trainer, **told)
            write_log(folder / "log.txt", theirs())
    argv = [str(tmp_path), "--out", str(tmp_path / f"plots{EVIL}"), "--html", str(tmp_path / "report.html")]
    assert plot_results.main(argv) == 0
    said = "".join(capsys.readouterr())
    page = (tmp_path / "report.html").read_text("utf-8")
    for text in (said, page):
        assert r"\x1b]0;x\x07\x9b31m\x0a\uffff$" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\uffff]", text)
    assert "<b>" not in page
    assert any(path.name.startswith("classes_") for path in (tmp_path / f"plots{EVIL}").iterdir())
    for path in (tmp_path / f"plots{EVIL}").glob("*.svg"):
        minidom.parse(str(path))  # XML allows fewer characters than JSON


def test_pictures_of_methods_with_long_names_get_names_that_a_disk_takes(tmp_path):
    trainers = ["x" * 250, "é" * 120, "x" * 200]
    for trainer in ("ZeroshotCLIP", *trainers):
        write_results(tmp_path / experiment("train_base", "dtd", trainer, "y" * 200) / "seed1", 80.0)
    assert plot_results.main([str(tmp_path), "--out", str(tmp_path / "plots")]) == 0
    names = [path.name for path in (tmp_path / "plots").glob("classes_*.svg")]
    assert len(names) == len(trainers)


def test_a_hostile_keyword_reaches_no_axis(tmp_path):
    write_results(tmp_path / experiment("train_base", "dtd") / "seed1", 80.0, **{EVIL: 70})
    for shots in (1, 4):
        write_results(tmp_path / f"few_shot/dtd/shots_{shots}/HeBA/x/seed1", 80.0, **{EVIL: 70})
    (table,) = [t for t in make_tables(find_places([tmp_path])[0], EVIL) if t.key.kind == "few_shot"]
    assert draw_few_shot([table]).get_supylabel() == r"\x1b]0;x\x07\x9b31m\x0a\uffff$\frac$<b> (%)"


def test_a_damaged_record_is_named_on_the_page_and_in_no_picture(tmp_path):
    for seed, damage in ((1, {}), (2, {"phases": [1]}), (3, {"per_class": "x"})):
        write_results(tmp_path / experiment("train_base", "dtd") / f"seed{seed}", 80.0, **damage)
    argv = [str(tmp_path), "--out", str(tmp_path / "plots"), "--html", str(tmp_path / "report.html")]
    assert plot_results.main(argv) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "phases is a list, not an object" in page
    assert "per_class is &quot;x&quot;, not a list" in page


def fails(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """The one line of a call that must fail."""
    assert plot_results.main([str(arg) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_mistakes_are_one_line(tmp_path, capsys, output):
    assert fails(capsys, tmp_path / "nix") == f"error: no such directory: {tmp_path / 'nix'}\n"
    assert fails(capsys, tmp_path).startswith("error: no finished run where the scripts put runs below ")
    assert fails(capsys, output, "--vs", "x").startswith('error: --vs "x": no published numbers; known are ')
    (tmp_path / "file").write_text("")
    few = output / "base2new/train_base/dtd"
    assert fails(capsys, few, "--out", tmp_path / "file/plots").startswith("error: cannot write: ")


def test_pictures_and_page_never_replace_what_runs_wrote(output, tmp_path, capsys):
    (tmp_path / "link").symlink_to(output)
    seed = output / experiment("train_base", "dtd") / "seed1"
    for out in (output, tmp_path / "link", seed):
        said = fails(capsys, output, "--out", out)
        assert said.startswith(f"error: --out {out} is a folder of runs that was given; ")
    (tmp_path / "page.html").symlink_to(seed / "results.json")
    former = (seed / "results.json").read_bytes()
    for page in (seed / "results.json", tmp_path / "page.html"):
        said = fails(capsys, output, "--out", tmp_path / "plots", "--html", page)
        assert said.startswith(f"error: --html {page}: a file of a run is called so; ")
    assert (seed / "results.json").read_bytes() == former
    assert not (tmp_path / "plots").exists()


def test_runs_given_twice_are_told_in_one_line(output, tmp_path, capsys):
    few = output / "base2new/train_base/dtd"
    assert plot_results.main([str(few), str(few), "--out", str(tmp_path / "plots")]) == 0
    again = "found a second time, by a link or another folder that was given: each counts once"
    assert capsys.readouterr().err == f"note: {few}: 3 runs {again}\n"


def test_a_full_disk_keeps_the_former_page_and_pictures(output, tmp_path, capsys, monkeypatch):
    argv = [
        output / "base2new/train_base/dtd",
        "--out",
        tmp_path / "plots",
        "--html",
        tmp_path / "report.html",
    ]
    assert plot_results.main([str(arg) for arg in argv]) == 0
    former = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()

    def full(*given: object, **_: object) -> None:
        for file in given[1:]:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    for place in ("matplotlib.figure.Figure.savefig", "fileio.atomic.os.fsync"):  # a picture; the page
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            assert "disk full?" in (line := fails(capsys, *argv))
            assert "; make room, or name other places with --out and --html" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == former


def test_without_matplotlib_the_way_to_it_is_told(output, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reporting.plots", None)
    monkeypatch.delattr("reporting.plots", raising=False)
    assert "pip install" in fails(capsys, output)

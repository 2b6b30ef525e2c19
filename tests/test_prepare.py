"""Data sets become ready whatever the servers do, or say what is wrong; nothing is left in between."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets.preparation import imagenet
from datasets.preparation.check import survey
from datasets.preparation.layout import LOCK, WORKSPACE, set_aside
from datasets.preparation.run import prepare
from datasets.preparation.sources import File, Source, load_sources
from fileio import download, exclusive
from fileio.errors import NoRoom
from tests.prepare_world import WNIDS, Server, failing, picture, small, tree, with_files, zipped

NAMES = [source.name for source in load_sources()]


pytest_plugins = ["tests.prepare_world"]  # the server


def test_a_file_set_aside_replaces_no_earlier_one(tmp_path: Path) -> None:
    for content in ("1", "2", "3"):
        (tmp_path / "split.json").write_text(content)
        set_aside(tmp_path / "split.json")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"split.json.old": "1", "split.json.old-2": "2", "split.json.old-3": "3"}


def open_loader(name: str, root: Path) -> object:
    """The data set as a run opens it."""
    from runner.config import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_list(["DATASET.NAME", name, "DATASET.ROOT", str(root), "DATASET.NUM_SHOTS", -1])
    return DATASET_REGISTRY.get(name)(cfg)


def leftovers(source: Source, root: Path) -> list[str]:
    return [path for path in tree(root) if WORKSPACE in path]


@pytest.mark.parametrize("name", NAMES)
def test_each_data_set_becomes_ready_and_its_loader_opens_it(
    name: str, server: Server, tmp_path: Path
) -> None:
    source = small(name, server)
    assert survey(source, tmp_path).state == "missing"
    mirror = server.url() if name == "ImageNet" else ""  # ImageNet has no source of its own
    report = prepare(source, tmp_path, mirror=mirror)
    assert report.state == "ready", report.problems
    assert report.found == source.counts
    assert report.classes == source.classes
    assert not leftovers(source, tmp_path)
    before, asked = tree(tmp_path), len(server.log)
    assert prepare(source, tmp_path).state == "ready"
    assert (tree(tmp_path), len(server.log)) == (before, asked)  # nothing is done a second time

    data = open_loader(name, tmp_path)
    counts = {"train": len(data.train_x), "test": len(data.test)}
    if source.layout == "folders":  # test images only
        counts.pop("train")
    elif name == "ImageNet":
        assert len(data.val) == source.counts["val"]
        counts["val"] = counts.pop("test")
    else:
        counts["val"] = len(data.val)
    assert counts == source.counts
    assert all(os.path.isfile(item.impath) for item in data.test)


def test_the_table_names_fifteen_data_sets_with_sources_and_layouts() -> None:
    sources = load_sources()
    assert len(sources) == 15
    for source in sources:
        from_somewhere = [file.sources for part in source.parts if part.required for file in part.files]
        assert all(from_somewhere) or source.name == "ImageNet"
        assert source.counts["test" if source.name != "ImageNet" else "val"] > 0
        config = Path(__file__).parents[1] / "configs" / "datasets" / f"{source.config}.yaml"
        assert f'"{source.name}"' in config.read_text()


def test_the_table_agrees_with_the_real_split_files(assets: Path) -> None:
    from datasets.preparation.check import is_published, split_problem

    for path in sorted((assets / "real" / "splits").iterdir()):
        source = next(source for source in load_sources() if source.split == path.name)
        assert split_problem(source, path) == ""
        assert is_published(source, path)
        names = {name for part in json.loads(path.read_text()).values() for _, _, name in part}
        assert len(names) == source.classes


@pytest.mark.parametrize("name", ["UCF101", "ImageNetV2", "ImageNetA"])  # a zip, a tar.gz, a tar
def test_a_truncated_archive_is_refused(name: str, server: Server, tmp_path: Path) -> None:
    source = small(name, server)
    image_part = source.parts[1]
    place = f"{source.folder}/{image_part.files[0].name}"
    whole = server.files[place]
    server.files[place] = whole[: len(whole) // 4]
    report = prepare(source, tmp_path)
    assert report.state == "missing"
    assert image_part.files[0].name in "\n".join(report.problems)
    assert image_part.paths[0] not in os.listdir(tmp_path / source.folder)
    server.files[place] = whole
    assert prepare(source, tmp_path).state == "ready"


def test_an_archive_with_fewer_images_is_refused(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    server.files["eurosat/few.zip"] = zipped({"2750/Forest/Forest_1.jpg": picture()})
    few = File("few.zip", (server.url(path="eurosat/few.zip"),))
    report = prepare(with_files(source, "2750", few), tmp_path)
    assert '11 of 12 images of 2750 missing, e.g. "2750/Forest/Forest_2.jpg"' in "\n".join(report.problems)
    assert sorted(os.listdir(tmp_path / "eurosat")) == [WORKSPACE, source.split]
    assert prepare(with_files(source, "2750", few, *source.parts[1].files), tmp_path).state == "ready"


def test_a_split_file_with_other_counts_or_content_is_refused(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    content = json.loads(server.files[f"eurosat/{source.split}"])
    content["test"].reverse()
    server.files["eurosat/other.json"] = json.dumps(content).encode()
    content["val"].pop()
    server.files["eurosat/fewer.json"] = json.dumps(content).encode()
    right = source.parts[0].files[0]
    urls = tuple(server.url(path=f"eurosat/{name}") for name in ("fewer.json", "other.json"))
    report = prepare(with_files(source, source.split, replace(right, sources=urls)), tmp_path)
    problems = "\n".join(report.problems)
    assert "lists 3 val images instead of 4" in problems
    assert "another split than the published one" in problems
    assert not (tmp_path / "eurosat" / source.split).exists()
    source = with_files(source, source.split, replace(right, sources=urls + right.sources))
    assert prepare(source, tmp_path).state == "ready"


def test_a_split_that_a_loader_drew_gives_way_to_the_official_one(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    content = json.loads(server.files[f"eurosat/{source.split}"])
    (tmp_path / "eurosat").mkdir()
    path = tmp_path / "eurosat" / source.split
    path.write_text(json.dumps({**content, "note": "drawn"}))
    assert prepare(source, tmp_path).state == "ready"
    assert json.loads(path.read_text()) == content
    assert "note" in json.loads(path.with_name(path.name + ".old").read_text())


def test_a_split_is_not_replaced_while_its_images_cannot_be_had(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    prepare(source, tmp_path)
    path = tmp_path / "eurosat" / source.split
    full = json.loads(path.read_text())
    cut = json.dumps({**full, "test": full["test"][:1]})
    path.write_text(cut)
    (tmp_path / "eurosat" / "2750" / full["test"][1][0]).unlink()
    dead = with_files(source, "2750", File("EuroSAT.zip", (server.url("dead", "EuroSAT.zip"),)))
    report = prepare(dead, tmp_path)
    assert "stays as it is" in "\n".join(report.problems)
    assert path.read_text() == cut
    assert not path.with_name(path.name + ".old").exists()
    assert prepare(source, tmp_path).state == "ready"
    assert json.loads(path.read_text()) == full
    assert path.with_name(path.name + ".old").read_text() == cut


def test_a_web_page_in_the_place_of_a_table_is_refused_and_replaced(server: Server, tmp_path: Path) -> None:
    source = small("OxfordFlowers", server)
    place, page = "oxford_flowers/cat_to_name.json", b"<html>no</html>"
    right, server.files[place] = server.files[place], page
    assert prepare(source, tmp_path).state == "ready"
    path = tmp_path / place
    assert not path.exists()
    path.write_bytes(page)  # an earlier call had put it there
    server.files[place] = right
    assert prepare(source, tmp_path).state == "ready"
    assert path.read_bytes() == right


def test_missing_images_are_filled_in_and_others_stay(server: Server, tmp_path: Path) -> None:
    source = small("DescribableTextures", server)
    prepare(source, tmp_path)
    images = tmp_path / "dtd" / "images"
    (images / "banded" / "banded_2.jpg").unlink()
    (images / "wavy" / "wavy_1.jpg").write_bytes(b"my own")
    report = survey(source, tmp_path)
    assert (report.state, report.found["train"]) == ("incomplete", 5)
    assert prepare(source, tmp_path).state == "ready"
    assert (images / "wavy" / "wavy_1.jpg").read_bytes() == b"my own"


def test_an_interrupted_call_is_continued(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small("StanfordCars", server)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", failing(tarfile.TarFile.extract, 3, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path)
    assert survey(source, tmp_path).state == "missing"
    assert sorted(os.listdir(tmp_path / "stanford_cars")) == [WORKSPACE, source.split]
    server.log.clear()
    assert prepare(source, tmp_path).state == "ready"
    assert "good/stanford_cars/cars_train.tgz" not in dict(server.log)  # it was there already


def test_a_full_disk_is_one_line_and_the_next_call_continues(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small("EuroSAT", server)
    with monkeypatch.context() as patch:
        patch.setattr(download, "free", lambda folder: 100)
        with pytest.raises(NoRoom, match="no room left for .*are free.*make room"):
            prepare(source, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", failing(print, 0, OSError(28, "No space left on device")))
        with pytest.raises(NoRoom, match="no room left to unpack EuroSAT.zip"):
            prepare(source, tmp_path)
    assert sorted(os.listdir(tmp_path / "eurosat")) == [WORKSPACE, source.split]
    assert prepare(source, tmp_path).state == "ready"


def test_what_has_no_source_ends_in_instructions(server: Server, tmp_path: Path) -> None:
    for name, words in (
        ("ImageNet", f"ILSVRC2012_img_val.tar (6.3 GB), put them into {tmp_path}/imagenet"),
        ("StanfordCars", "the original file names"),
        ("SUN397", "MD5 8ca2778205c41d23104230ba66911c7a"),
    ):
        report = prepare(small(name, server, "dead"), tmp_path)
        assert report.state == "missing"
        assert words in report.problems[-1]
        assert name == "ImageNet" or "drive.google.com/file/d/" in report.problems[-1]
        assert "{folder}" not in report.problems[-1]


def test_two_processes_do_not_work_in_one_folder(server: Server, tmp_path: Path) -> None:
    source = small("EuroSAT", server)
    (tmp_path / "eurosat").mkdir()
    with (
        exclusive(tmp_path / "eurosat" / LOCK),
        pytest.raises(OSError, match=rf'another process prepares ".*eurosat" \(process {os.getpid()} on '),
    ):
        prepare(source, tmp_path)
    assert not list((tmp_path / "eurosat").iterdir())


def test_classnames_come_from_another_folder_or_from_installed_packages(
    server: Server, tmp_path: Path
) -> None:
    source = small("ImageNetA", server)
    there = tmp_path / "imagenet" / "classnames.txt"
    there.parent.mkdir()
    there.write_bytes(server.files["imagenet-adversarial/classnames.txt"])
    dead = File("classnames.txt", (server.url("dead", "classnames.txt"), "packages:classnames"))
    assert prepare(with_files(source, "classnames.txt", dead), tmp_path).state == "ready"
    copy = tmp_path / "imagenet-adversarial" / "classnames.txt"
    assert copy.read_bytes() == there.read_bytes()
    there.unlink()
    copy.unlink()
    assert prepare(with_files(source, "classnames.txt", dead), tmp_path).state == "ready"
    lines = copy.read_text().splitlines()
    assert (len(lines), lines[0], lines[999]) == (1000, "n01440764 tench", "n15075141 toilet paper")


def test_imagenet_continues_after_the_classes_that_are_unpacked(server: Server, tmp_path: Path) -> None:
    source = small("ImageNet", server)
    archive = tmp_path / "train.tar"
    archive.write_bytes(server.files["imagenet/ILSVRC2012_img_train.tar"])
    done = tmp_path / "out" / WNIDS[0]
    done.mkdir(parents=True)
    (done / "kept.JPEG").write_bytes(picture())
    imagenet.unpack_train(archive, tmp_path / "out")
    assert os.listdir(done) == ["kept.JPEG"]
    assert sorted(os.listdir(tmp_path / "out")) == WNIDS[:3]
    assert len(tree(tmp_path / "out")) == 1 + 2 * 4
    assert source.counts["train"] == 12


def test_imagenets_validation_images_are_sorted_where_they_lie(server: Server, tmp_path: Path) -> None:
    source = small("ImageNet", server)
    validation = tmp_path / "imagenet" / "images" / "val"
    validation.mkdir(parents=True)
    for number in range(1, 7):
        (validation / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(picture(number))
    report = prepare(source, tmp_path)
    assert report.found["val"] == 6
    assert sorted(os.listdir(validation)) == WNIDS[:3]
    assert len(os.listdir(validation / WNIDS[1])) == 2


def test_kaggles_table_names_the_validation_classes(tmp_path: Path) -> None:
    path = tmp_path / imagenet.KAGGLE
    path.write_text(f"ImageId,PredictionString\nILSVRC2012_val_00000002,{WNIDS[3]} 1 2 3 4 \n")
    assert imagenet.read_wnids(path, 1) == {"ILSVRC2012_val_00000002.JPEG": WNIDS[3]}


def test_a_run_imports_nothing_of_it_but_the_command_line() -> None:
    code = "import sys, datasets.prepare; print([name for name in sys.modules if 'preparation' in name])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

"""Descriptions of the classes are read as data, cover every class, and become one JSON file a data set."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.preparation import descriptions
from datasets.preparation.descriptions import (
    class_names,
    is_described,
    prepare_descriptions,
    read_json,
    read_python,
)
from datasets.preparation.names import RENAMINGS, RULES, key, match, published_names
from datasets.preparation.run import prepare
from datasets.preparation.sources import Source, find_source, load_sources
from fileio.errors import Damaged, Unavailable
from tests.prepare_world import Server, small

pytest_plugins = ["tests.prepare_world"]  # the server


@pytest.fixture(autouse=True)
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repositories of the descriptions are on the server; the first one is gone."""
    monkeypatch.setattr(descriptions, "LWEIB", (server.url("dead", "{}.py"), server.url("good", "{}.py")))
    monkeypatch.setattr(descriptions, "CUPL", server.url("good") + "/")


def source_of(name: str) -> Source:
    return find_source(name, load_sources())


def test_a_python_dictionary_is_read_without_being_executed(tmp_path: Path) -> None:
    path = tmp_path / "eurosat.py"
    path.write_text(
        '"""Text."""\n# more\n'
        'EUROSAT_TEMPLATES = {\n    "Forest": ["green.", \'with\\nbreak "and" quotes\'],\n}\n'
    )
    assert read_python(path) == {"Forest": ["green.", 'with\nbreak "and" quotes']}
    path.write_text('open("EXECUTED", "w").write("x")\nA = {"a": ["x"]}\n')
    with pytest.raises(Damaged, match="line 1 does not assign"):
        read_python(path)
    assert not Path("EXECUTED").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('A = {"Forest": [open("x").read()]}', "no plain dictionary"),
        ("A = {}", r"no \{class name"),
        ("A = [1]", "line 1 does not assign a dictionary"),
        ("# nothing", "0 dictionaries instead of one"),
        ('A = {"a": ["x"]}\nprint("x")', "line 2 does not assign a dictionary"),
        ('import os\nA = {"a": ["x"]}', "line 1 does not assign a dictionary"),
        ('A = {"a": ["x"]}\nB = {"b": ["y"]}', "2 dictionaries instead of one"),
        ('A = {"a": "x"}', "class 'a' has no list of sentences"),
        ('A = {"a": ["x", " "]}', "class 'a' has no list of sentences"),
        ("A = {" + "[" * 5000 + "}", "no plain dictionary"),
        ("<html>404</html>", "no plain dictionary"),
    ],
)
def test_other_python_files_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text)
    with pytest.raises(Damaged, match=words) as caught:
        read_python(tmp_path / "x.py")
    assert len(str(caught.value)) < 400


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"a": ["x"]}')
    assert read_json(tmp_path / "x.json") == {"a": ["x"]}
    monkeypatch.setattr(descriptions, "MAX_SIZE", 3)
    with pytest.raises(Damaged, match="too many"):
        read_json(tmp_path / "x.json")


def test_descriptions_land_below_the_root_once(server: Server, tmp_path: Path) -> None:
    server.files["ucf101.py"] = b'U = {"Apply Eye Makeup": ["a face."], "yo yo": ["a toy.\\n", "two."]}'
    data = small("UCF101", server)
    prepare(data, tmp_path)
    path = prepare_descriptions(data, tmp_path)
    assert path == tmp_path / "descriptions" / "ucf101.json"
    assert json.loads(path.read_text()) == {"Apply Eye Makeup": ["a face."], "yo yo": ["a toy.\n", "two."]}
    assert [entry.name for entry in path.parent.iterdir()] == ["ucf101.json"]
    asked = len(server.log)
    prepare_descriptions(data, tmp_path)
    assert len(server.log) == asked


def test_every_class_needs_a_description(server: Server, tmp_path: Path) -> None:
    server.files["ucf101.py"] = b'U = {"apply eye makeup": ["a face."], "yo": ["a toy."]}'
    data = small("UCF101", server)
    prepare(data, tmp_path)
    with pytest.raises(Unavailable, match=r"good/ucf101.py: describes no Yo_Yo \(1 classes\)"):
        prepare_descriptions(data, tmp_path)
    assert not (tmp_path / "descriptions" / "ucf101.json").exists()
    mine = tmp_path / "descriptions" / "ucf101.json"
    mine.write_text('{"Yo Yo": ["mine."]}')
    with pytest.raises(ValueError, match="describes no Apply_Eye_Makeup .*delete it to fetch it again"):
        prepare_descriptions(data, tmp_path)
    assert json.loads(mine.read_text()) == {"Yo Yo": ["mine."]}


def test_where_no_source_delivers_each_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        Unavailable, match="could not be fetched: .*/dead/dtd.py: HTTP 404.*/good/dtd.py: HTTP 404"
    ):
        prepare_descriptions(source_of("dtd"), tmp_path)


def test_a_damaged_file_is_skipped_for_the_next_source(server: Server, tmp_path: Path) -> None:
    server.files |= {"dtd.py": b'D = {"banded": ["stripes."]}', "descriptions/dtd.py": b"<html>"}
    path = prepare_descriptions(replace(source_of("dtd"), classes=1), tmp_path, mirror=server.url())
    assert json.loads(path.read_text()) == {"banded": ["stripes."]}


def test_a_file_that_lacks_classes_is_skipped_for_the_next_source(server: Server, tmp_path: Path) -> None:
    both = b'D = {"banded": ["stripes."], "wavy": ["waves."]}'
    server.files |= {"dtd.py": both, "descriptions/dtd.py": b'D = {"banded": ["stripes."]}'}
    two = replace(source_of("dtd"), classes=2)
    path = prepare_descriptions(two, tmp_path, mirror=server.url())
    assert len(json.loads(path.read_text())) == 2
    assert is_described(two, tmp_path)
    path.write_text("{")
    assert not is_described(two, tmp_path)
    path.unlink()
    with pytest.raises(Unavailable, match="describes 2 classes instead of 3"):
        prepare_descriptions(replace(two, classes=3), tmp_path, mirror=server.url())


def test_cupls_names_become_those_of_coops_loaders(server: Server, tmp_path: Path) -> None:
    server.files |= {
        "all_prompts/full_prompts/cars_prompts_full.json": b'{"Audi TT Coupe 2012": ["x."]}',
        "all_prompts/full_prompts/sun_prompts_full.json": b'{"apse (indoor)": ["x."], "abbey": ["y."]}',
    }
    written = {
        name: list(json.loads(prepare_descriptions(source, tmp_path, origin="cupl").read_text()))
        for name, count in (("stanford_cars", 1), ("sun397", 2))
        for source in [replace(source_of(name), classes=count)]
    }
    assert written == {"stanford_cars": ["2012 Audi TT Coupe"], "sun397": ["indoor apse", "abbey"]}
    with pytest.raises(Unavailable, match="CuPL has no descriptions of EuroSAT"):
        prepare_descriptions(source_of("eurosat"), tmp_path, origin="cupl")


def test_it_is_said_when_the_classes_could_not_be_compared(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["dtd.py"] = b'D = {"banded": ["stripes.", "more."]}'
    with caplog.at_level(logging.INFO):
        prepare_descriptions(replace(source_of("dtd"), classes=1), tmp_path)
    assert "1 classes, 2 sentences each; not compared with the classes" in caplog.messages[-1]


def test_the_published_descriptions_cover_the_real_classes(assets: Path, tmp_path: Path) -> None:
    """From Python files made of the real sentences, back to the same JSON, complete for the real splits."""
    for path in sorted((assets / "real" / "descriptions").iterdir()):
        content = json.loads(path.read_text())
        python = tmp_path / f"{path.stem}.py"
        python.write_text(f"{path.stem.upper()}_TEMPLATES = {content!r}\n")
        assert read_python(python) == content
        assert {len(sentences) for sentences in content.values()} == {20}
        source = source_of(path.stem)
        split = assets / "real" / "splits" / (source.split or "none")
        if split.is_file():
            folder = tmp_path / source.folder
            folder.mkdir()
            (folder / source.split).symlink_to(split)
            names = class_names(source, tmp_path)
            assert len(names) == source.classes
            assert {key(name) for name in names} <= {key(name) for name in content}


@pytest.mark.parametrize(
    ("name", "classname", "how"),
    [
        ("Sea lion", "sea_lion", None),
        ("globe flower", "globe-flower", "punctuation and spaces"),
        ("Colts-Foot", "colt's foot", "punctuation and spaces"),
        ("hand stand pushups", "Handstand_Pushups", "punctuation and spaces"),
        ("creme brulee", "crème_brûlée", "the spelling"),
        ("checkered", "chequered", "the spelling"),
        ("water lily", "water_lilly", "the spelling"),
        ("waffle", "waffles", "the plural"),
        ("donut holes", "doughnut_hole", "the plural"),
        ("cookies", "cookie", "the plural"),
        ("glass", "glasses", "the plural"),
    ],
)
def test_one_class_written_in_two_ways_is_matched(name: str, classname: str, how: str | None) -> None:
    other, notes = match([name, "something else"], [classname], source_of("dtd"))
    if how is None:
        assert (other, notes) == ({}, [])
    else:
        assert other == {name: classname}
        assert notes == [f'"{name}" describes {classname}: the same but for {how}']


@pytest.mark.parametrize(
    ("name", "classname"),
    [
        ("737-200", "737-300"),
        ("7 37", "73 7"),
        ("2012 Audi TT Coupe", "2012 Audi TTS Coupe"),
        ("knotted", "dotted"),
        ("yin and yang symbol", "yin_yang"),
        ("A320", "A321"),
        ("C#", "C++"),
    ],
)
def test_different_classes_are_not_matched(name: str, classname: str) -> None:
    with pytest.raises(ValueError, match=r"^describes no .* \(1 classes\)$"):
        match([name], [classname], source_of("dtd"))


def test_a_name_that_may_be_two_classes_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match="describes no T-shirt .*; T-shirt may be 'tshirt' or 't shirt'"):
        match(["tshirt", "t shirt"], ["T-shirt"], source_of("dtd"))
    with pytest.raises(ValueError, match="glasses .*; glass may be 'Glass.' or .*; glasses may be 'Glass.'"):
        match(["Glass.", "glass'"], ["glass", "glasses"], source_of("dtd"))
    with pytest.raises(ValueError, match="describes no cranes"):  # not the crane's sentences
        match(["crane"], ["crane", "cranes"], source_of("dtd"))
    assert match(["crane", "Cranes"], ["crane", "cranes"], source_of("dtd")) == ({}, [])


@pytest.mark.parametrize(
    "source", [s for s in load_sources() if s.layout != "folders"], ids=lambda s: s.config
)
def test_no_rule_takes_two_published_classes_for_one(source: Source) -> None:
    names = {key(name) for name in published_names(source)}
    assert len(names) == {"imagenet": 998}.get(source.config, source.classes)
    for rule, form in RULES.items():
        assert len({form(name) for name in names}) == len(names), rule
    assert set(RENAMINGS.get(source.config, {}).values()) <= names
    assert match(names, names, source) == ({}, [])


def test_published_class_names_are_those_of_the_official_splits(assets: Path) -> None:
    found = 0
    for source in load_sources():
        path = assets / "real" / "splits" / (source.split or "none")
        if path.is_file():
            names = {key(name) for items in json.loads(path.read_text()).values() for _, _, name in items}
            assert names == {key(name) for name in published_names(source)}, source.config
            found += 1
    assert found == 7


@pytest.mark.parametrize("prepared", [True, False])
def test_cupls_own_names_describe_all_classes(
    prepared: bool, server: Server, tmp_path: Path, assets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the pictures are not there: then the names are compared with the published ones."""
    told = {"caltech101": 8, "oxford_flowers": 3, "ucf101": 1, "stanford_cars": 1}
    for name, number in told.items():
        source = source_of(name)
        names = (assets / "cases" / "04-cupl-real-names" / "names" / f"{name}.json").read_bytes()
        server.files[descriptions.CUPL_FILES[name]] = names
        if prepared:
            (tmp_path / source.folder).mkdir()
            split = assets / "real" / "splits" / source.split
            (tmp_path / source.folder / source.split).symlink_to(split)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            path = prepare_descriptions(source, tmp_path, origin="cupl")
        written = {key(one) for one in json.loads(path.read_text())}
        assert {key(one) for one in published_names(source)} <= written
        assert sum(" describes " in line for line in caplog.messages) == number
        assert ("compared with the published class names" in caplog.messages[-1]) is not prepared
        assert is_described(source, tmp_path)
    assert "stanford_cars: 196 names in CoOp's order, as \"" in caplog.text


def test_the_loaders_names_are_written_and_each_match_is_told(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CuPL's "off-center face" is the folder Faces, which CoOp calls face; "centered face" is Faces_easy."""
    data = small("Caltech101", server)
    images = {"Faces/1.jpg": "face", "yin_yang/1.jpg": "yin_yang", "accordion/1.jpg": "accordion"}
    split = [[path, label, name] for label, (path, name) in enumerate(images.items())]
    (tmp_path / data.folder).mkdir()
    (tmp_path / data.folder / data.split).write_text(json.dumps({"train": split, "val": [], "test": []}))
    names = ["background", "centered face", "off-center face", "Accordion", "yin and yang symbol"]
    server.files[descriptions.CUPL_FILES["caltech101"]] = json.dumps({n: [f"{n}."] for n in names}).encode()
    with caplog.at_level(logging.INFO):
        path = prepare_descriptions(data, tmp_path, origin="cupl")
    assert json.loads(path.read_text()) == {
        "background": ["background."],
        "centered face": ["centered face."],
        "face": ["off-center face."],
        "Accordion": ["Accordion."],
        "yin_yang": ["yin and yang symbol."],
    }
    assert [line for line in caplog.messages if " describes " in line] == [
        'caltech101: "off-center face" describes face: CuPL\'s other name of it',
        'caltech101: "yin and yang symbol" describes yin_yang: CuPL\'s other name of it',
    ]


def test_a_file_with_names_that_training_would_not_find_is_not_ready(server: Server, tmp_path: Path) -> None:
    flowers = source_of("oxford_flowers")
    mine = tmp_path / "descriptions" / "oxford_flowers.json"
    mine.parent.mkdir()
    names = {key(name) for name in published_names(flowers)}
    mine.write_text(json.dumps({name: ["x."] for name in names}))
    assert is_described(flowers, tmp_path)
    mine.write_text(json.dumps({name.replace("globe-flower", "globe flower"): ["x."] for name in names}))
    assert not is_described(flowers, tmp_path)
    with pytest.raises(ValueError, match='"globe flower" describes globe-flower: .* delete it to fetch'):
        prepare_descriptions(flowers, tmp_path)


@pytest.mark.parametrize("suffix", ["json", "py"])
def test_two_names_for_one_class_are_refused_with_both(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_text(("" if suffix == "json" else "A = ") + '{"Sea Lion": ["a."], "sea_lion": ["b."]}')
    with pytest.raises(Damaged, match='"Sea Lion" and "sea_lion" are the same class name'):
        (read_json if suffix == "json" else read_python)(path)


def test_a_name_that_stands_twice_in_a_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"cat": ["a."], "cat": ["b."]}')
    with pytest.raises(Damaged, match='"cat" and "cat" are the same'):
        read_json(tmp_path / "x.json")


def test_names_that_coops_order_makes_one_are_refused(server: Server, tmp_path: Path) -> None:
    content = {"apse (indoor)": ["x."], "indoor apse": ["y."]}
    server.files[descriptions.CUPL_FILES["sun397"]] = json.dumps(content).encode()
    with pytest.raises(Unavailable, match='"indoor apse" and "indoor apse" are the same class name'):
        prepare_descriptions(replace(source_of("sun397"), classes=1), tmp_path, origin="cupl")

"""VOC xml as people have it: layouts, names, encodings, and what stands in the files."""

import os
import unicodedata
from pathlib import Path

import pytest

from razorlite.core.config import build, load
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import Decoding, SplitPart, VocDataset
from tests.data.helpers import kinds, save_image

HEAD = "<annotation><filename>{}</filename><size><width>60</width><height>40</height></size>"
OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def xml(*objects, filename="none.jpg", head=""):
    return head + HEAD.format(filename) + "".join(objects) + "</annotation>"


def thing(name="red", box=(8, 10, 32, 26), extra=""):
    return OBJECT.format(name, extra, *box)


def write(
    root, texts, *, images="JPEGImages", annotations="Annotations", suffix=".jpg", split=None
):
    """Write {name: xml}, an image for each, and a split file unless it is None."""
    for name, text in texts.items():
        path = root / annotations / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        save_image(root / images / f"{name}{suffix}")
    if split is not None:
        (root / "split.txt").write_bytes(split if isinstance(split, bytes) else split.encode())


def read(root, classes=("red",), split="split.txt", **kwargs):
    return VocDataset(root=str(root), split=split, classes=list(classes), **kwargs)


def stems(dataset):
    return [Path(key).stem for key in dataset.keys]


GOOD = xml(thing())


class TestLayouts:
    @pytest.mark.parametrize(
        ("images", "annotations"),
        [
            ("JPEGImages", "Annotations"),
            ("images", "annotations"),
            (".", "."),
            (".", "Annotations"),
        ],
    )
    def test_without_split_files_all_is_taken(self, tmp_path, images, annotations):
        write(tmp_path, {"b": GOOD, "a": GOOD}, images=images, annotations=annotations)
        dataset = read(tmp_path, split=None, strict=True)
        assert stems(dataset) == ["a", "b"]
        assert dataset[0][1].boxes.tolist() == [[8, 10, 32, 26]]

    def test_folders_below_and_names_of_ones_own(self, tmp_path):
        write(tmp_path, {"x/a": GOOD, "y/a": GOOD}, images="pictures", annotations="boxes")
        dataset = read(tmp_path, split=None, images="pictures", annotations="boxes", strict=True)
        assert dataset.names == ["x/a.jpg", "y/a.jpg"]

    def test_images_without_xml_are_named(self, tmp_path):
        write(tmp_path, {"a": GOOD})
        save_image(tmp_path / "JPEGImages" / "b.png")
        dataset = read(tmp_path, split=None)
        assert stems(dataset) == ["a"]
        assert kinds(dataset) == ["image without an annotation file"]
        assert dataset.faults[0].file.endswith("b.png")

    def test_split_files_are_not_mixed_by_accident(self, tmp_path):
        write(tmp_path, {"a": GOOD, "b": GOOD})
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
        with pytest.raises(DataError, match=r"name one or several as split \(ImageSets/Main/tr"):
            read(tmp_path, split=None)
        assert len(read(tmp_path, split=SplitPart(fraction=0.5, part="first"))) == 1

    def test_no_xml_at_all(self, tmp_path):
        (tmp_path / "Annotations").mkdir()
        save_image(tmp_path / "a.jpg")
        with pytest.raises(DataError, match=r"no usable image is left after 1 x image without"):
            read(tmp_path, split=None)

    def test_neither_folder(self, tmp_path):
        save_image(tmp_path / "a.jpg")
        with pytest.raises(DataError, match=r"no annotation folder .*Annotations"):
            read(tmp_path, split=None)


class TestSplitPart:
    @pytest.mark.parametrize("split", [{"fraction": 0.5, "part": "first"}, ("train.txt",)])
    def test_what_is_neither_names_nor_a_part_is_refused(self, split, tmp_path):
        write(tmp_path, {"a": GOOD})
        with pytest.raises(DataError, match="expected names of files or a SplitPart"):
            read(tmp_path, split=split)

    def parts(self, root, **kwargs):
        return [
            set(stems(read(root, split=SplitPart(part=part, **kwargs))))
            for part in ("first", "rest")
        ]

    def test_disjoint_and_whole_and_stable(self, tmp_path):
        names = [f"n{i}" for i in range(40)]
        write(tmp_path, dict.fromkeys(names, GOOD))
        first, rest = self.parts(tmp_path, fraction=0.75)
        assert not first & rest
        assert first | rest == set(names)
        assert 22 <= len(first) <= 38
        write(tmp_path, dict.fromkeys(["new", "n3a"], GOOD))
        (tmp_path / "Annotations" / "n7.xml").unlink()
        (tmp_path / "JPEGImages" / "n7.jpg").unlink()
        again, others = self.parts(tmp_path, fraction=0.75)
        assert (again ^ first) <= {"new", "n3a", "n7"}
        assert (others ^ rest) <= {"new", "n3a", "n7"}
        assert self.parts(tmp_path, fraction=0.75, seed=1)[0] != again

    def test_in_a_configuration(self, tmp_path):
        write(tmp_path, {"a": GOOD, "b": GOOD, "c": GOOD})
        path = tmp_path / "a.yaml"
        path.write_text(f"root: {tmp_path}\nclasses: [red]\ndecoding: {{white: 4095}}\n")
        whole = build(load(path), VocDataset)
        assert whole._decoding == Decoding(white=4095)
        overrides = ["split={fraction: 0.5, part: rest}"]
        assert 1 <= len(build(load(path, overrides), VocDataset)) < len(whole) == 3

    @pytest.mark.parametrize("fraction", [0, 1, 1.5, float("nan")])
    def test_impossible_fractions(self, fraction):
        with pytest.raises(ConfigError, match=r"SplitPart\.fraction wants a number"):
            SplitPart(fraction=fraction, part="first")


class TestSplitFiles:
    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
    )
    def test_encodings(self, tmp_path, encoding):
        write(tmp_path, {"café": GOOD, "b": GOOD}, split="b\r\ncafé\r\n".encode(encoding))
        assert stems(read(tmp_path, strict=True)) == ["b", "café"]

    def test_accents_taken_apart(self, tmp_path):
        apart = unicodedata.normalize("NFD", "café")
        write(tmp_path, {apart: GOOD}, split="café\n")
        assert len(read(tmp_path, strict=True)) == 1

    @pytest.mark.parametrize(
        "line",
        [
            "a.jpg", "a.xml", "./a", "JPEGImages/a.jpg", "/home/me/voc/JPEGImages/a.jpg",
            r"JPEGImages\a.jpg", "A", "a.JPG", "a  1", "a\t0",
            "./JPEGImages/a.jpg ./Annotations/a.xml",
        ],
    )  # fmt: skip
    def test_spellings_of_one_name(self, tmp_path, line):
        write(tmp_path, {"a": GOOD, "b.v2": GOOD}, split=f"b.v2\n{line}\n")
        dataset = read(tmp_path, strict=True)
        assert stems(dataset) == ["b.v2", "a"]

    def test_names_with_spaces(self, tmp_path):
        names = ["My photo (1)", "My photo (2)", "My photo 1", "My photo 0", "My photo -1"]
        write(tmp_path, dict.fromkeys(names, GOOD), split="\n".join(names))
        assert stems(read(tmp_path, strict=True)) == names

    @pytest.mark.parametrize(
        ("split", "expected"),
        [
            # "p 1" and "p" both exist: columns where all lines have them, names otherwise
            ("p 1\nq -1\nr 0\n", ["p", "r"]),
            ("p 1\nq\nr -1\n", ["p 1", "q"]),
            ("p 1 1\np -1\nq  1\n", ["p 1", "q"]),
            ("r 1\nq 5\n", ["r"]),
        ],
    )
    def test_columns_or_names(self, tmp_path, split, expected):
        write(tmp_path, dict.fromkeys(["p", "p 1", "q", "r"], GOOD), split=split)
        assert stems(read(tmp_path)) == expected

    def test_what_is_not_there_is_named_and_the_rest_goes_on(self, tmp_path):
        write(tmp_path, {"a": GOOD}, split="gone 7\na\nbad\0name\n".replace("\0", "\x01"))
        dataset = read(tmp_path)
        assert stems(dataset) == ["a"]
        assert kinds(dataset) == ["missing annotation"] * 2
        assert "gone 7.xml" in dataset.faults[0].file

    def test_one_image_by_two_names_is_taken_once(self, tmp_path):
        write(tmp_path, {"a": GOOD}, split="a\na.jpg\nA\n")
        dataset = read(tmp_path)
        assert len(dataset) == 1
        assert kinds(dataset) == ["duplicate image"] * 2

    def test_no_text(self, tmp_path):
        write(tmp_path, {"a": GOOD}, split=b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        with pytest.raises(DataError, match=r"split\.txt is no text"):
            read(tmp_path)

    def test_no_list(self, tmp_path):
        write(tmp_path, {"a": GOOD}, split='{"images": [' + "1, " * 5000)
        with pytest.raises(DataError, match=r"split\.txt: a line has 15011 characters"):
            read(tmp_path)


class TestImagesOfNames:
    def test_any_suffix_the_stated_one_first(self, tmp_path):
        texts = dict.fromkeys("abc", GOOD)
        write(tmp_path, texts, split="a\nb\nc\n")
        images = tmp_path / "JPEGImages"
        (images / "a.jpg").rename(images / "a.JPG")
        (images / "b.jpg").rename(images / "b.png")
        save_image(images / "c.png")
        files = [Path(key).name for key in read(tmp_path, strict=True).keys]
        assert files == ["a.JPG", "b.png", "c.jpg"]
        files = [Path(k).name for k in read(tmp_path, image_suffix=".png", strict=True).keys]
        assert files == ["a.JPG", "b.png", "c.png"]

    def test_filename_where_no_image_is_called_like_the_xml(self, tmp_path):
        texts = {
            "1": xml(thing(), filename=r"C:\me\Photo A.jpg"),
            "2": xml(thing(), filename="1.jpg"),
        }
        write(tmp_path, texts)
        images = tmp_path / "JPEGImages"
        (images / "1.jpg").rename(images / "photo a.JPEG")
        dataset = read(tmp_path, split=None, strict=True)
        assert [Path(key).name for key in dataset.keys] == ["photo a.JPEG", "2.jpg"]

    def test_filename_of_an_image_that_has_an_xml_of_its_own_is_not_believed(self, tmp_path):
        write(tmp_path, {"a": xml(thing(), filename="b.jpg"), "b": GOOD})
        (tmp_path / "JPEGImages" / "a.jpg").unlink()
        dataset = read(tmp_path, split=None)
        assert stems(dataset) == ["b"]
        assert kinds(dataset) == ["missing image"]

    def test_two_xml_files_of_one_image(self, tmp_path):
        write(tmp_path, {"a": xml(thing(), filename="c.jpg"), "b": xml(filename="c.jpg")})
        images = tmp_path / "JPEGImages"
        (images / "a.jpg").rename(images / "c.jpg")
        (images / "b.jpg").unlink()
        dataset = read(tmp_path, split=None)
        assert (stems(dataset), kinds(dataset)) == (["c"], ["duplicate image"])


class TestXml:
    def one(self, tmp_path, text, **kwargs):
        """Read a set of one given xml file and one good one; the good one has to be there."""
        write(tmp_path, {"a": text, "z": GOOD})
        dataset = read(tmp_path, split=None, **kwargs)
        assert stems(dataset)[-1] == "z"
        assert dataset[len(dataset) - 1][1].boxes.tolist() == [[8, 10, 32, 26]]
        return dataset

    @pytest.mark.parametrize(
        "encoding", ["gb2312", "gbk", "big5", "shift_jis", "utf-16", "utf-8-sig", "koi8-r"]
    )
    def test_encodings(self, tmp_path, encoding):
        name = {"koi8-r": "красный"}.get(encoding, "日本")
        head = "" if encoding == "utf-16" else f'<?xml version="1.0" encoding="{encoding}"?>\n'
        data = xml(thing(name), head=head.replace("-sig", "")).encode(encoding)
        dataset = self.one(tmp_path, data, classes=["red", name], strict=True)
        assert dataset[0][1].labels.tolist() == [1]

    @pytest.mark.parametrize("declared", ["utf-16", "x-foo", "punycode", "gb2312", "hex"])
    def test_wrong_declarations_of_plain_text(self, tmp_path, declared):
        head = f'<?xml version="1.0" encoding="{declared}"?>'
        assert len(self.one(tmp_path, xml(thing(), head=head), strict=True)) == 2

    def test_utf8_called_otherwise(self, tmp_path):
        head = '<?xml version="1.0" encoding="ascii"?>'
        dataset = self.one(tmp_path, xml(thing("é"), head=head), classes=["red", "é"], strict=True)
        assert len(dataset) == 2

    def test_letters_of_another_encoding_outside_names_do_no_harm(self, tmp_path):
        data = xml(thing(), filename="日本.jpg").encode("gbk")
        assert len(self.one(tmp_path, data, strict=True)) == 2

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "no element found"),
            ("<annotation>\n<object>", "a.xml:2"),
            ("<svg/>", "it is a <svg>, not an <annotation>"),
            (xml(thing("é"), head='<?xml version="1.0" encoding="x-foo"?>'), "unknown encoding"),
            ('<!DOCTYPE a [<!ENTITY b "c">]>' + GOOD, "declares entities"),
            ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + GOOD, "declares entities"),
            (GOOD.replace("red", "&red;"), "undefined entity"),
            (GOOD.replace("red", "\0"), "malformed xml"),
        ],
    )
    def test_malformed_ones_are_named(self, tmp_path, text, message):
        dataset = self.one(tmp_path, text)
        assert kinds(dataset) == ["malformed xml"]
        assert message in str(dataset.faults[0])
        assert "\n" not in str(dataset.faults[0])
        with pytest.raises(DataError, match=r"1 faults"):
            read(tmp_path, split=None, strict=True)

    def test_entities_that_multiply(self, tmp_path):
        levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
        bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{levels}]>' + GOOD.replace("red", "&l11;")
        assert kinds(self.one(tmp_path, bomb)) == ["malformed xml"]

    def test_depth_and_size(self, tmp_path, monkeypatch):
        deep = GOOD.replace("</annotation>", "<a>" * 100_000 + "</a>" * 100_000 + "</annotation>")
        assert len(self.one(tmp_path, deep, strict=True)) == 2
        monkeypatch.setattr("razorlite.data._voc_xml._BYTES", 1000)
        dataset = read(tmp_path, split=None)
        assert kinds(dataset) == ["malformed xml"]
        assert "at most 1000 are read" in dataset.faults[0].what

    def test_texts_without_end_are_cut_off_in_messages(self, tmp_path):
        long = "red" * 100_000
        objects = (
            thing(long),
            thing(box=(long, 1, 2, 3)),
            thing(extra=f"<difficult>{long}</difficult>"),
        )
        dataset = self.one(tmp_path, xml(*objects, filename=long))
        assert len(dataset.faults) == 3
        assert max(len(fault.what) for fault in dataset.faults) < 300

    def test_objects_without_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr("razorlite.data._voc_xml._OBJECTS", 3)
        dataset = self.one(tmp_path, xml(*[thing()] * 4))
        assert "it holds 4 objects; at most 3 are read" in dataset.faults[0].what

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    def test_a_pipe_in_the_place_of_an_xml_file(self, tmp_path):
        write(tmp_path, {"a": GOOD, "z": GOOD}, split="a\nz\n")
        (tmp_path / "Annotations" / "a.xml").unlink()
        os.mkfifo(tmp_path / "Annotations" / "a.xml")
        dataset = read(tmp_path)
        assert kinds(dataset) == ["malformed xml"]
        assert "not a file" in dataset.faults[0].what

    def test_namespaces_and_capitals(self, tmp_path):
        text = GOOD.replace("<annotation>", '<Annotation xmlns="http://x.org/voc">')
        text = text.replace("</annotation>", "</Annotation>").replace("object>", "Object>")
        dataset = self.one(tmp_path, text, strict=True)
        assert dataset[0][1].boxes.tolist() == [[8, 10, 32, 26]]

    @pytest.mark.parametrize("word", ["1", " 1 ", "True", "yes", "TRUE", "1.0"])
    def test_difficult_in_words(self, tmp_path, word):
        text = xml(thing(extra=f"<difficult>{word}</difficult>"))
        assert self.one(tmp_path, text, strict=True)[0][1].crowd.tolist() == [True]

    @pytest.mark.parametrize("word", ["0", "False", "no", "", "Unspecified"])
    def test_not_difficult_in_words(self, tmp_path, word):
        text = xml(thing(extra=f"<difficult>{word}</difficult><truncated>{word}</truncated>"))
        assert self.one(tmp_path, text, strict=True)[0][1].crowd.tolist() == [False]

    def test_difficult_that_is_no_answer(self, tmp_path):
        dataset = self.one(tmp_path, xml(thing(extra="<difficult>2</difficult>")))
        assert dataset[0][1].crowd.tolist() == [False]
        assert "object 1: '2'; expected 0 or 1, taken as 0" in dataset.faults[0].what

    def test_names_with_white_space(self, tmp_path):
        text = xml(thing("\n  dark\tred "), thing("Red"))
        dataset = self.one(tmp_path, text, classes=["red", "dark  red"])
        assert dataset[0][1].labels.tolist() == [1]
        assert "object 2: 'Red'; did you mean 'red'?" in dataset.faults[0].what

    def test_floats(self, tmp_path):
        dataset = self.one(tmp_path, xml(thing(box=("8.5", " 10 ", "3.2e1", "26.25"))), strict=True)
        assert dataset[0][1].boxes.tolist() == [[8.5, 10, 32, 26.25]]

    @pytest.mark.parametrize(
        ("box", "kind"),
        [
            ((32, 10, 8, 26), "inverted box"),
            ((70, 10, 90, 26), "box outside the image"),
            ((8, 10, 8, 26), "zero-area box"),
            (("a", 10, 32, 26), "box that is not four numbers"),
            (("nan", 10, 32, 26), "box that is not four numbers"),
            (("1e999", 10, 32, 26), "box that is not four numbers"),
            (("1_0", 10, 32, 26), "box that is not four numbers"),
            (("8,5", 10, 32, 26), "box that is not four numbers"),
            (("", 10, 32, 26), "box that is not four numbers"),
            ((-5, 10, 32, 26), "box partly outside the image, clipped"),
        ],
    )
    def test_wrong_boxes(self, tmp_path, box, kind):
        dataset = self.one(tmp_path, xml(thing(box=(1, 2, 3, 4)), thing(box=box)))
        assert kinds(dataset) == [kind]
        assert dataset[0][1].boxes.tolist()[0] == [1, 2, 3, 4]
        assert len(dataset[0][1]) == (2 if "clipped" in kind else 1)

    def test_objects_without_a_box_or_with_several(self, tmp_path):
        none = "<object><name>red</name><polygon/></object>"
        two = thing().replace("</bndbox>", "</bndbox><bndbox><xmin>1</xmin></bndbox>")
        dataset = self.one(tmp_path, xml(none, two))
        assert dataset[0][1].boxes.tolist() == [[8, 10, 32, 26]]
        assert [fault.kind for fault in dataset.faults] == [
            "object without a box",
            "object with several boxes, the first is taken",
        ]
        assert "object 1 (red)" in dataset.faults[0].what

    def test_parts_of_objects_are_no_objects(self, tmp_path):
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        dataset = self.one(tmp_path, xml(thing(extra=part)), strict=True)
        assert dataset[0][1].boxes.tolist() == [[8, 10, 32, 26]]

    @pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>", "<width>x</width>"])
    def test_sizes_that_say_nothing(self, tmp_path, size):
        sized = "<width>60</width><height>40</height>"
        dataset = self.one(tmp_path, GOOD.replace(sized, size), strict=True)
        assert dataset[0][1].size == (40, 60)

    @pytest.mark.parametrize("width", ["40", "1e300", "9" * 400])
    def test_sizes_that_contradict_the_image(self, tmp_path, width):
        dataset = self.one(tmp_path, GOOD.replace("<width>60", f"<width>{width}"))
        expected = ["image size differs from the annotation"] if len(width) < 100 else []
        assert kinds(dataset) == expected  # more than a float can say is no statement


def test_classes_are_named_once():
    with pytest.raises(ConfigError, match="without repeats"):
        VocDataset(root=".", classes=["a", "a"])

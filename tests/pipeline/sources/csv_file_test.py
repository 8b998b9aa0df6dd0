import json
import pathlib

import pytest

from pipeline.sources.csv_file import parse_columns
from pipeline.sources.listing import list_images


def _list(path: pathlib.Path, **options):
    return list_images(f"csv:{path}", seed=1, work_dir=pathlib.Path(), **options)


def _write(path: pathlib.Path, content: str | bytes) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(data)
    return path


def _labels(path: pathlib.Path, **options) -> dict[str, str]:
    return {image.name: image.label for image in _list(path, **options).images}


def test_a_csv_names_paths_labels_splits_and_groups(tmp_path):
    _write(tmp_path / "a b.jpg", b"one")
    path = _write(
        tmp_path / "list.csv",
        'label,path,split,group\nrose,"a b.jpg",test,g1\ntulip,2.jpg,,\n',
    )
    first, second = _list(path).images
    assert (second.name, second.label, second.split, second.group) == (
        "a b.jpg",
        "rose",
        "test",
        "g1",
    )
    assert second.read() == b"one"
    assert (first.label, first.split, first.group) == ("tulip", None, None)


PLAIN = "path,label\n1.jpg,rösé\n2.jpg,tulip\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", ", "),
        "\n" + PLAIN.replace("\n", " \n\n"),
        'path;label;note\n1.jpg;rösé;"a;b,c"\n2.jpg;tulip\n',
        '{"path": "1.jpg", "label": "rösé"}\n{"label": "tulip", "path": "2.jpg"}\n',
        '[{"path": "1.jpg", "label": "rösé"}, {"path": "2.jpg", "label": "tulip"}]',
    ],
)
def test_the_usual_forms_of_a_table_are_understood(tmp_path, content):
    path = _write(tmp_path / "list.csv", content)
    assert _labels(path) == {"1.jpg": "rösé", "2.jpg": "tulip"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class\n1.jpg,rose\n", "Try --csv_columns=path=file,label=class"),
        ("image_id,dx\n1,rose\n", "Try --csv_columns=path=image_id,label=dx"),
        ("path,species\n1,rose\n", "Try --csv_columns=label=species$"),
        ("a,b\n1,x\n", "with a, b. Try --csv_columns=path=NAME_OF_PATH,label="),
        ("", "with no rows"),
        ("path,label\n", "with no rows"),
        ("path,label\n1.jpg,\n", "line 2 of .*label=''"),
        ("path,label,split\n1.jpg,rose,mine\n", "split='mine'"),
        ("path,label\n1.jpg,rose\n1.jpg,tulip\n", "in lines 2 and 3"),
        ("path,label\n1.jpg,rose,red\n", "line 2 has 3 values, the first line 2"),
        ("path,label,path\n1.jpg,rose,x\n", "two columns have one name"),
        ("path,label\n1.jpg,pâquerette\n".encode("latin-1"), "not UTF-8: byte 0xe2 in"),
        (PLAIN.encode("utf-16-le"), "UTF-16 needs a byte order mark"),
        ('{"path": 1\n', "cannot be read: .*list.csv"),
        ("[1]", "line 1 is no JSON object"),
        ('path,label\n"' + "x" * 200_000 + '",a\n', "field larger than field limit"),
        ("path,a,b\n1.jpg,1,1\n2.jpg,0,1\n", "line 2 of .* with a, b"),
    ],
)
def test_a_csv_that_cannot_be_used_is_quoted(tmp_path, content, message):
    path = _write(tmp_path / "list.csv", content)
    with pytest.raises(ValueError, match=message) as error:
        _list(path)
    assert str(path) in str(error.value)


def test_a_pipe_or_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"list\.csv' does not exist"):
        _list(tmp_path / "list.csv")
    with pytest.raises(ValueError, match="is no regular file"):
        _list(tmp_path)


def test_columns_have_the_names_that_are_given(tmp_path):
    path = _write(
        tmp_path / "list.csv", "file,species,fold\n1.jpg,rose,train\n2.jpg,lily,val\n"
    )
    columns = parse_columns(["path=file", "label=species", "split=fold"])
    images = _list(path, csv_columns=columns).images
    assert [(i.name, i.label, i.split) for i in images] == [
        ("1.jpg", "rose", "train"),
        ("2.jpg", "lily", "validation"),
    ]
    with pytest.raises(
        ValueError, match=r"no column 'kind'.* with file, species, fold"
    ):
        _list(path, csv_columns={"path": "file", "label": "kind"})


@pytest.mark.parametrize("values", [["path"], ["file=path"], ["path="]])
def test_columns_must_be_pairs(values):
    with pytest.raises(ValueError, match="--csv_columns must be pairs of path, label"):
        parse_columns(values)


def test_metadata_of_hugging_face_is_understood(tmp_path):
    rows = [
        {"file_name": "train/1.jpg", "label": "rose", "width": 3},
        {"file_name": "train/2.jpg", "label": "lily", "width": None},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path = _write(tmp_path / "metadata.jsonl", lines)
    assert _labels(path) == {"train/1.jpg": "rose", "train/2.jpg": "lily"}
    _write(tmp_path / "1.jpg", b"x")
    with pytest.raises(ValueError, match=r"--source=csv:.*metadata\.jsonl\."):
        list_images(str(tmp_path), seed=1, work_dir=pathlib.Path())


def test_one_column_for_each_class_is_understood(tmp_path):
    """As in the ground truth of HAM10000, whose names have no suffix."""
    for part, number in ((1, 7), (2, 8)):
        _write(tmp_path / f"images_part_{part}" / f"ISIC_{number}.jpg", bytes([number]))
    path = _write(
        tmp_path / "truth.csv",
        "image,MEL,NV,BCC\nISIC_7,0.0,1.0,0.0\nISIC_8,1.0,0.0,0.0\nISIC_9,0.0,0.0,1.0\n",
    )
    listing = _list(path, csv_columns={"path": "image"})
    assert [(image.name, image.label) for image in listing.images] == [
        ("ISIC_9", "BCC"),
        ("images_part_1/ISIC_7.jpg", "NV"),
        ("images_part_2/ISIC_8.jpg", "MEL"),
    ]
    assert listing.images[1].read() == b"\x07"
    assert listing.notes == (
        "one column for each class: MEL, NV, BCC",
        "found below the folder of the table: 2 files, for example ISIC_7 as "
        "images_part_1/ISIC_7.jpg",
    )


def test_a_name_that_is_there_twice_is_not_guessed(tmp_path):
    for folder in ("a", "b"):
        _write(tmp_path / folder / "1.jpg", b"x")
    _write(tmp_path / "b" / "2.jpg", b"x")
    path = _write(tmp_path / "list.csv", "path,label\n1.jpg,rose\n2.jpg,lily\n")
    assert _labels(path) == {"1.jpg": "rose", "b/2.jpg": "lily"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "daisy\nwild rose\n"),
        ("labels.txt", "1: wild rose\n0: daisy\n"),
        ("classes.json", '["daisy", "wild rose"]'),
        ("label_num_to_disease_map.json", '{"0": "daisy", "1": "wild rose"}'),
        ("labels.json", '{"daisy": 0, "wild rose": 1}'),
    ],
)
def test_numbers_get_the_names_of_a_file_beside_the_table(tmp_path, name, content):
    path = _write(tmp_path / "list.csv", "path,label\n1.jpg,0\n2.jpg,1\n")
    assert _labels(path) == {"1.jpg": "0", "2.jpg": "1"}
    _write(tmp_path / name, content)
    listing = _list(path)
    assert [image.label for image in listing.images] == ["daisy", "wild rose"]
    assert listing.notes == (
        f"the labels are numbers; their names are those of {name}",
    )


def test_a_number_without_a_name_is_an_error(tmp_path):
    path = _write(tmp_path / "list.csv", "path,label\n1.jpg,0\n2.jpg,2\n")
    _write(tmp_path / "classes.txt", "daisy\nrose\n")
    with pytest.raises(ValueError, match=r"classes\.txt has no name for 2"):
        _list(path)
    _write(tmp_path / "classes.json", "3")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(ValueError, match="must be a JSON list of names"):
        _list(path)


@pytest.mark.parametrize(
    "names",
    [
        ("daisy\\1.jpg", "rose\\2.jpg"),
        ("C:\\Users\\me\\photos\\daisy\\1.jpg", "D:\\rose\\2.jpg"),
        ("/home/another/set/daisy/1.jpg", "/mnt/rose/2.jpg"),
        ("DAISY/1.JPG", "Rose/2.jpg"),
    ],
)
def test_the_paths_of_another_machine_are_found(tmp_path, names):
    for name in ("daisy/1.jpg", "rose/2.jpg", "rose/1.jpg"):
        _write(tmp_path / name, b"x")
    rows = "".join(f"{name},{label}\n" for label, name in enumerate(names))
    path = _write(tmp_path / "list.csv", f"path,label\n{rows}")
    assert [image.name for image in _list(path).images] == ["daisy/1.jpg", "rose/2.jpg"]


def test_an_address_of_a_file_is_its_path(tmp_path):
    for name in ("a b.jpg", "c.jpg"):
        _write(tmp_path / name, b"x")
    path = _write(
        tmp_path / "list.csv",
        f"path,label\nfile://{tmp_path}/a%20b.jpg,a\nfile://{tmp_path}/c.jpg,c\n",
    )
    assert [image.read() for image in _list(path).images] == [b"x", b"x"]


@pytest.mark.parametrize(
    "address", ["https://example.org/1.jpg", "gs://bucket/1.jpg", "S3://bucket/1.jpg"]
)
def test_addresses_on_a_network_are_refused(tmp_path, address):
    path = _write(tmp_path / "list.csv", f"path,label\n1.jpg,a\n{address},b\n")
    with pytest.raises(ValueError, match=f"line 3 of {path}: '{address}'. Download"):
        _list(path)


def test_a_column_without_a_name_is_no_split_and_no_group(tmp_path):
    """pandas writes the index of a table as such a column."""
    path = _write(tmp_path / "list.csv", ",path,label\n0,1.jpg,a\n0,2.jpg,b\n")
    images = _list(path).images
    assert [(i.name, i.label, i.split, i.group) for i in images] == [
        ("1.jpg", "a", None, None),
        ("2.jpg", "b", None, None),
    ]


def test_splits_have_the_names_that_folders_have(tmp_path):
    rows = "1.jpg,a,Training\n2.jpg,b,testing\n3.jpg,b,DEV\n"
    path = _write(tmp_path / "list.csv", f"path,label,split\n{rows}")
    splits = [image.split for image in _list(path).images]
    assert splits == ["train", "test", "validation"]


def test_empty_values_to_the_right_do_not_count(tmp_path):
    path = _write(tmp_path / "list.csv", "path,label,,\n1.jpg,a,,,\n2.jpg,b\n")
    assert _labels(path) == {"1.jpg": "a", "2.jpg": "b"}


def test_a_first_line_that_names_no_columns_is_said(tmp_path):
    _write(tmp_path / "1.jpg", b"x")
    for content in ("1.jpg,a\n2.jpg,b\n", "1.jpg 0\n2.jpg 1\n"):
        path = _write(tmp_path / "list.csv", content)
        with pytest.raises(ValueError, match="Write path,label above it"):
            _list(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 xlsx", b"\xd0\xcf\x11\xe0 xls"])
def test_a_workbook_is_no_table(tmp_path, content):
    with pytest.raises(ValueError, match=r"workbook of a spreadsheet.*Save it as CSV"):
        _list(_write(tmp_path / "list.xlsx", content))

import csv

import pytest

from pipeline.audit.audit_csv import check_replaceable, write_findings
from pipeline.audit.findings import Finding


def test_each_image_of_each_finding_has_a_line_that_does_nothing(tmp_path):
    path = tmp_path / "audit.csv"
    write_findings(
        path,
        [
            Finding("used, grey", ("=a/1.jpg",), "", "used"),
            Finding("near duplicates", ("a/\x1b[2J.jpg", 'b,"/\n.jpg'), "x", "kept"),
        ],
    )
    with open(path, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["number", "kind", "name", "detail", "action"],
            ["1", "used, grey", "'=a/1.jpg", "", "used"],
            ["2", "near duplicates", r"a/\x1b[2J.jpg", "x", "kept"],
            ["2", "near duplicates", r'b,"/\n.jpg', "x", "kept"],
        ]
    check_replaceable(path)


def test_a_table_of_somebody_else_is_not_replaced(tmp_path):
    path = tmp_path / "audit.csv"
    check_replaceable(path)
    path.write_text("number,of,mine\n")
    with pytest.raises(ValueError, match=r"audit\.csv, which exists and is no report"):
        check_replaceable(path)
    assert path.read_text() == "number,of,mine\n"

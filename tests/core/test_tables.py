import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import STUDY_COLUMNS, read_table


def test_an_alias_is_read_where_the_proper_name_is_missing(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("path,name\na/1.jpg,None\n")
    table = read_table(file, ("image_path", "name"), STUDY_COLUMNS)
    assert table.to_dict("records") == [{"image_path": "a/1.jpg", "name": "None"}]
    with pytest.raises(UserError, match=r"lacks the column\(s\) image_path; it has path, name"):
        read_table(file, ("image_path",))
    file.write_text("path,image_path\nsrc,a/1.jpg\n")
    table = read_table(file, ("image_path",), STUDY_COLUMNS)
    assert table.to_dict("records") == [{"path": "src", "image_path": "a/1.jpg"}]


def test_two_columns_of_an_alias_are_refused(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("path,path\na,b\n")
    with pytest.raises(UserError, match="several columns called path"):
        read_table(file, ("image_path",), STUDY_COLUMNS)

"""Files: atomic writes, tables as they are, fingerprints."""

import hashlib

import pandas as pd
import pytest

from abo_vqa.core import files, fingerprints, json_files, scratch, tables
from abo_vqa.core.errors import UserError


def test_none_and_empty_stay_answers(tmp_path):
    table = pd.DataFrame({"question": ["a", "b", "c"], "answer": ["None", "", "NA"]})
    path = tables.write_table(table, tmp_path / "t.csv")
    assert tables.read_table(path)["answer"].tolist() == ["None", "", "NA"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_has_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    json_files.write_json({}, tmp_path / "t.json")
    assert (tmp_path / "t.json").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no table at"),
        (b"", "isn't a UTF-8 CSV"),
        (b"\xff\xfd\x00bad", "isn't a UTF-8 CSV"),
        (b"image_path,answer\nx,y\n", r"lacks the column\(s\) question"),
    ],
)
def test_bad_tables_are_the_users_to_fix(tmp_path, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        tables.read_table(path, required=("image_path", "question", "answer"))


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_files.write_json({"x": float("nan")}, tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_ignores_order_and_sees_values():
    assert fingerprints.fingerprint({"a": 1, "b": 2}) == fingerprints.fingerprint({"b": 2, "a": 1})
    assert fingerprints.fingerprint({"a": 1}) != fingerprints.fingerprint({"a": 2})


def test_md5_is_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert fingerprints.file_md5(tmp_path / "f") == hashlib.md5(b"abc").hexdigest()


def test_scratch_is_in_the_main_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert (
        scratch.scratch("finetune", "abc") == tmp_path / ".cache" / "abo-vqa" / "finetune" / "abc"
    )


def test_results_have_six_decimals_so_that_another_processors_digits_stay_out(tmp_path):
    one = {"a": 0.88068559683, "n": 3, "rows": [{"loss": 1.0707724094}, (0.1 + 0.2, None)]}
    other = {"a": 0.88068561, "n": 3, "rows": [{"loss": 1.07077241}, (0.3, None)]}
    first = json_files.write_results(one, tmp_path / "1.json").read_text()
    assert first == json_files.write_results(other, tmp_path / "2.json").read_text()
    assert json_files.read_json(tmp_path / "1.json") == {
        "a": 0.880686, "n": 3, "rows": [{"loss": 1.070772}, [0.3, None]],
    }  # fmt: skip
    assert json_files.rounded({"x": -1e-9, "yes": True}) == {"x": 0.0, "yes": True}
    assert str(json_files.rounded(-1e-9)) == "0.0"


def test_results_have_as_many_digits_as_are_the_same_on_every_processor(tmp_path):
    digits = {"loss": ".3f", "lr": ".6g", "bertscore_f1": ".4f"}
    one = {"steps": [{"loss": 0.4395772, "lr": 3.7878787878e-07}], "bertscore_f1": 0.8992145}
    other = {"steps": [{"loss": 0.4395754, "lr": 3.7878787878e-07}], "bertscore_f1": 0.8992151}
    first = json_files.write_results(one, tmp_path / "1.json", digits).read_text()
    assert first == json_files.write_results(other, tmp_path / "2.json", digits).read_text()
    assert json_files.read_json(tmp_path / "1.json") == {
        "steps": [{"loss": 0.44, "lr": 3.78788e-07}], "bertscore_f1": 0.8992,
    }  # fmt: skip
    # What is under the key goes with it; other numbers keep six decimals.
    assert json_files.rounded({"bertscore_f1": [0.12346, 0.6], "x": 1 / 3}, digits) == {
        "bertscore_f1": [0.1235, 0.6], "x": 0.333333,
    }  # fmt: skip


def test_json_in_another_encoding_is_one_message(tmp_path):
    file = tmp_path / "training.json"
    file.write_bytes('{"title": "été"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"training\.json isn't UTF-8 text .* Save it in UTF-8"):
        json_files.read_json(file)

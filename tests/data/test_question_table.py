"""Tables of questions about pictures of one's own: found, answered, scored, and what fails."""

import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_collection import ImageFolder, open_images
from abo_vqa.data.image_files import ImageError, load_image
from tests.support import workspaces

ASK = ["ask", "--model", "blip", "--images", "pictures", "--csv", "asked.csv"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("table"), "blip")
    (root / "pictures/fa").mkdir(parents=True)
    one, two = workspaces.pictures(2)
    one.save(root / "pictures/fa/a.jpg", quality=95)
    two.save(root / "pictures/b.PNG")
    one.save(root / "secret.png")
    return root


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def ask(text: str, *more: str) -> int:
    Path("asked.csv").write_text(text, encoding="utf-8")
    return main([*ASK, "--out", "out.csv", *more])


@pytest.mark.parametrize(
    "name",
    [
        "fa/a.jpg",
        "fa\\a.jpg",
        "small/fa/a.jpg",
        "images\\small\\fa\\a.jpg",
        "/kaggle/input/abo/images/small/fa/a.jpg",
        "a.jpg",
        "a.JPG",
        " fa/a.jpg ",
        "fa/../fa/a.jpg",
        "{root}/pictures/fa/a.jpg",
        "../pictures/fa/a.jpg",
        "fa/../../pictures/fa/a.jpg",
        "file:///data/small/fa/a.jpg",
        "https://example.org/small/fa/a.jpg?x=1",
        "C:\\abo\\small\\fa\\a.jpg",
        '"fa/a.jpg"',
        "a",
    ],
)
def test_spellings_of_one_picture(here: Path, name: str) -> None:
    assert ImageFolder(Path("pictures")).find(name.replace("{root}", str(here))) == ("fa/a.jpg", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "the path points outside pictures"),
        ("fa/../../secret.png", "the path points outside pictures"),
        ("../a.jpg", "the path points outside pictures"),
        ("..", "the path points outside pictures"),
        ("{root}/secret.png", "outside pictures"),
        ("{root}/pictures/../secret.png", "outside pictures"),
        ("/etc/hostname", "outside pictures"),
        ("c.jpg", "No such file or directory"),
        ("x" * 5000, "No such file or directory"),
        ("  ", "no image is named"),
    ],
)
def test_names_that_are_no_picture_of_the_folder(here: Path, name: str, reason: str) -> None:
    assert ImageFolder(Path("pictures")).find(name.replace("{root}", str(here))) == ("", reason)


def test_a_name_that_several_files_have(tmp_path: Path) -> None:
    for name in ("x/1.jpg", "y/1.jpg", "2.jpg", "2.json", "3.webp", "3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = ImageFolder(tmp_path)
    assert folder.find("1.jpg") == ("", "several files could be meant: 'x/1.jpg', 'y/1.jpg'")
    assert folder.find("data/y/1.jpg") == ("y/1.jpg", "")
    assert folder.find("2") == ("2.jpg", "")  # not its caption
    assert folder.find("3")[1].startswith("several files could be meant")


@pytest.mark.parametrize(
    "header",
    ["Predicted Answer,ERROR,error", "generated_answer,Generated-Answer,Confidence",
     "response,model_answer,predicted"],
)  # fmt: skip
def test_old_answers_are_replaced_whatever_they_are_called(here: Path, header: str) -> None:
    assert ask(f"Image_Path,question,answer,{header}\na.jpg,is it red?,red,blue,gone,no\n") == 0
    out = read_table("out.csv")
    assert list(out) == ["Image_Path", "question", "answer", "generated_answer"]
    assert out["generated_answer"].iloc[0] not in ("", "blue")


def test_columns_come_back_under_their_own_names(here: Path) -> None:
    columns = "image_path=pic,question=q2"
    assert ask("id,question,pic,q2\n7,old?,a.jpg,is it red?\n", "--columns", columns) == 0
    assert list(read_table("out.csv")) == ["id", "question", "pic", "q2", "generated_answer"]


def test_an_id_names_a_picture(here: Path) -> None:
    assert ask("id\tquestion\r\na\tis it red?\r\nb\tis it red?\r\n") == 0
    assert (read_table("out.csv")["generated_answer"] != "").all()


def test_where_the_answers_cant_go_is_found_out_first(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "abo_vqa.models.answering.finetuned.load_by_name",
        lambda *_: pytest.fail("the model was loaded"),
    )
    Path("asked.csv").write_text("image,question\na.jpg,is it red?\n")
    assert main([*ASK, "--out", "pictures"]) == 2
    assert "--out pictures is a folder" in capsys.readouterr().err
    assert main([*ASK, "--out", "asked.csv"]) == 2
    assert "asked.csv would be overwritten" in capsys.readouterr().err
    assert main([*ASK, "--out", "pictures/b.PNG/out.csv"]) != 0
    assert "pictures/b.PNG" in capsys.readouterr().err


def test_what_an_earlier_run_wrote_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    old = "image_name,question,answer,prediction,Error,confidence,note\n"
    assert ask(old + "a.jpg,is it red?,red,blue,No such file or directory,0.9,x\n") == 0
    out = read_table("out.csv")
    assert list(out) == ["image_name", "question", "answer", "note", "generated_answer"]
    assert out["image_name"].tolist() == ["a.jpg"]
    assert "left out: prediction, Error, confidence" in capsys.readouterr().out


def test_usual_and_chosen_names_of_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("Filename; Query\na.jpg; is it red?\n") == 0
    assert "image_path ← 'Filename', question ← 'Query'" in capsys.readouterr().out
    assert list(read_table("out.csv")) == ["Filename", "Query", "generated_answer"]
    assert ask("pic,output\na.jpg,red?\n", "--columns", "image_path=pic,question=output") == 0
    assert list(read_table("out.csv")) == ["pic", "output", "generated_answer"]


def test_a_row_that_fails_is_counted_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    long = "red " * 900
    rows = ["a.jpg,is it red?", "gone.jpg,x?", "gone2.jpg,x?", f"b.png,{long}", "b.png,", "b.png,x"]
    assert ask("image,question\n" + "\n".join(rows) + "\n") == 0
    errors = read_table("out.csv")["error"].tolist()
    assert [e.partition(":")[0] for e in errors] == [
        "",
        "No such file or directory",
        "No such file or directory",
        "the question is too long",
        "the question is empty",
        "",
    ]
    said = capsys.readouterr()
    assert "2 answers → out.csv" in said.out
    assert "warning: 4 of 6 rows have no answer: 2 × No such file or directory" in said.err
    assert "(e.g. 'gone.jpg')" in said.err


def test_no_picture_found_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.csv").unlink(missing_ok=True)
    assert ask("image,question\ngone.jpg,x?\n../secret.png,x?\n") == 2
    said = capsys.readouterr().err
    assert "none of the 2 images of asked.csv is in pictures" in said
    assert "'gone.jpg'" in said
    assert not Path("out.csv").exists()


def test_no_row_answered_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("image,question\na.jpg,\nb.png, \n") == 1
    assert read_table("out.csv")["error"].tolist() == ["the question is empty"] * 2
    assert "warning: 2 of 2 rows" in capsys.readouterr().err


def test_a_picture_that_was_mended_is_read_again(here: Path) -> None:
    broken = here / "pictures/new.jpg"
    broken.write_bytes(b"nothing")
    table = "image,question\nnew.jpg,is it red?\na.jpg,is it red?\n"
    assert ask(table) == 0
    assert "not a JPEG, PNG, WebP, GIF or BMP" in read_table("out.csv")["error"].iloc[0]
    workspaces.pictures(1)[0].save(broken)
    assert ask(table) == 0
    assert "error" not in read_table("out.csv")
    broken.unlink()


def test_what_predict_writes_can_be_scored(here: Path) -> None:
    assert ask("image_name,question,answer\na.jpg,is it red?,red\nb.png,is it red?,no\n") == 0
    read = read_columns(Path("out.csv"), ("image_path", "answer", "prediction"), ("error",))
    assert read.source_names["prediction"] == "generated_answer"
    assert (read.frame["prediction"] != "").all()


def test_a_picture_is_seen_as_browsers_show_it(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.new("RGB", (30, 20), (200, 0, 0))
    upright.transpose(Image.Transpose.ROTATE_90).save(here / "turned.jpg", exif=exif)
    assert load_image(here / "turned.jpg").size == (30, 20)
    upright.save(here / "called.jpg", "WEBP")
    assert load_image(here / "called.jpg").size == (30, 20)


# Without this right, root obeys the permissions of files as everybody does.
OBEY = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere"
)
def test_a_checkout_that_can_only_be_read(here: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("image,question\na.jpg,is it red?\n")
    command = [*(OBEY if os.geteuid() == 0 else []), sys.executable, "-m", "abo_vqa", *ASK[:-1]]
    given = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
    given |= {"HOME": str(tmp_path / "home")}
    folders = [here, *(folder for folder in here.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(folder.stat().st_mode & ~0o222)
    try:
        done = subprocess.run(
            [*command, str(tmp_path / "asked.csv"), "--out", str(tmp_path / "out.csv")],
            env=given, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        for folder in folders:
            folder.chmod(folder.stat().st_mode | stat.S_IWUSR)
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "out.csv")["generated_answer"].iloc[0]


def test_a_tar_is_read_in_place_and_nothing_outside_it_is_reached(here: Path, capsys) -> None:
    with tarfile.open("pictures.tar", "w") as tar:
        tar.add("pictures", arcname="data/pictures")
    tar = open_images(Path("pictures.tar"))
    names = ["fa/a.jpg", "a", "../pictures/fa/a.jpg", "/data/pictures/fa/a.jpg", "fa\\a.jpg"]
    assert [tar.find(name) for name in names] == [("data/pictures/fa/a.jpg", "")] * len(names)
    assert tar.find("../secret.png") == tar.find("/etc/hostname")
    assert tar.find("/etc/hostname") == ("", "No such file or directory")
    assert tar.image("data/pictures/fa/a.jpg").size == load_image("pictures/fa/a.jpg").size
    with pytest.raises(ImageError, match="No such file"):
        tar.image("fa/gone.jpg")
    text = "image,question\nfa/a.jpg,is it red?\nb.png,what color is it?\n"
    assert ask(text) == 0
    from_folder = read_table("out.csv")
    assert ask(text, "--images", "pictures.tar") == 0
    assert read_table("out.csv").equals(from_folder)


def test_a_tar_may_start_with_any_name(tmp_path):
    """The first two bytes of these are those of a zip and of bzip2."""
    for name in ("PK-lamp.png", "BZ/chair.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        with tarfile.open(tmp_path / "images.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            tar.add(tmp_path / name, name)
        assert open_images(tmp_path / "images.tar").paths == [name]

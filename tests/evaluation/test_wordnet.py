"""WordNet: the installed one, else the repository's; a damaged one is passed over."""

import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from sample.wordnet import lexnames, without_glosses

from abo_vqa.core.errors import UserError
from abo_vqa.evaluation import wordnet
from abo_vqa.evaluation.wordnet_reader import WordNetReader

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine without WordNet: NLTK looks nowhere but in an empty folder."""
    import nltk

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(wordnet, "_SOURCES", tmp_path)
    return tmp_path


def test_without_any_source_the_message_says_what_to_do(nothing):
    with pytest.raises(UserError, match=r"nltk\.downloader wordnet"):
        wordnet.ensure_wordnet()


@pytest.fixture
def whole():
    """A WordNet as it is installed here, as (name, bytes) pairs."""
    place = wordnet.ensure_wordnet()
    return {name: place.join(name).open().read() for name in wordnet.FILES}


def lay(files, base, archive):
    """A WordNet in a folder of NLTK data, packed or not."""
    corpora = base / "corpora"
    corpora.mkdir(parents=True)
    raw = {n: c if isinstance(c, bytes) else c.encode() for n, c in files.items()}
    if not archive:
        for name, content in raw.items():
            (corpora / "wordnet").mkdir(exist_ok=True)
            (corpora / "wordnet" / name).write_bytes(content)
        return corpora / "wordnet"
    with zipfile.ZipFile(corpora / "wordnet.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in raw.items():
            packed.writestr(f"wordnet/{name}", content)
    return corpora / "wordnet.zip"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 7])


def garble(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(content)


BROKEN = {
    "zip cut off": (True, cut),
    "zip garbled": (True, garble),
    "zip empty": (True, lambda path: path.write_bytes(b"")),
    "zip is a page": (True, lambda path: path.write_text("<html>404</html>")),
    "no lexnames": (False, lambda path: (path / "lexnames").unlink()),
    "half a folder": (False, lambda path: (path / "data.verb").unlink()),
    "half a file": (False, lambda path: cut(path / "data.noun")),
    "empty folder": (False, lambda path: [f.unlink() for f in path.iterdir()]),
    "dangling link": (False, lambda path: (shutil.rmtree(path), path.symlink_to("/nowhere"))),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_wordnet_is_named_and_the_next_one_used(
    whole, tmp_path, monkeypatch, capfd, fault
):
    import nltk

    archive, break_it = BROKEN[fault]
    broken = lay(whole, tmp_path / "first", archive)
    break_it(broken)
    lay(whole, tmp_path / "second", archive)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    place = wordnet.ensure_wordnet()
    assert str(tmp_path / "second") in str(place)
    assert str(broken) in capfd.readouterr().err


@pytest.mark.parametrize("archive", [True, False])
def test_a_broken_wordnet_and_no_other_ends_in_the_message(nothing, archive):
    broken = lay({"lexnames": b"x"}, nothing / ".cache" / "abo-vqa" / "nltk_data", archive)
    assert broken.exists()
    with pytest.raises(UserError, match=r"nltk\.downloader wordnet"):
        wordnet.ensure_wordnet()


@pytest.fixture
def shipped(nothing):
    """A machine without WordNet, in a checkout."""
    copy = nothing / wordnet.ARCHIVE
    copy.parent.mkdir()
    copy.write_bytes((REPOSITORY / wordnet.ARCHIVE).read_bytes())
    return copy


def test_a_checkout_needs_no_network(shipped, monkeypatch):
    """A package index is all that set-up may ask for: see README.md."""

    def refuse(*_args, **_options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    reader = WordNetReader(wordnet.ensure_wordnet())
    assert reader.get_version() == "3.0"
    assert reader.morphy("mice") == "mouse"
    assert wordnet.find_wordnet() is not None


def test_all_but_a_gloss_stays_where_it_is():
    original = (
        "  1 a licence | with a bar\n"
        '00000028 03 n 02 mug 0 cup 0 001 @ 00000099 n 0000 | with a handle; "a mug | of tea"  \n'
    )
    blank = without_glosses(original.encode()).decode()
    assert len(blank) == len(original)
    assert blank.splitlines()[0] == original.splitlines()[0]
    assert blank.splitlines()[1].rstrip() == original.splitlines()[1].partition(" | ")[0] + " |"


def test_a_workspace_of_ones_own_takes_the_sources_archive(nothing, monkeypatch):
    """The package may be run in a folder that has only data and settings."""
    monkeypatch.setattr(wordnet, "_SOURCES", REPOSITORY)
    assert str(nothing) in str(wordnet.ensure_wordnet())


def test_a_truncated_archive_is_named(shipped, capfd):
    cut(shipped)
    with pytest.raises(UserError, match=r"git restore samples/wordnet\.zip"):
        wordnet.ensure_wordnet()
    assert str(shipped) in capfd.readouterr().err
    assert not (wordnet.data_folder() / "corpora").exists()


def test_lexnames_are_wordnets_45():
    with zipfile.ZipFile(REPOSITORY / wordnet.ARCHIVE) as archive:
        lines = archive.read("wordnet/lexnames").decode().splitlines()
    assert lines == lexnames().splitlines()
    assert len(lines) == 45
    assert (lines[0], lines[3], lines[44]) == (
        "00\tadj.all\t3",
        "03\tnoun.Tops\t1",
        "44\tadj.ppl\t3",
    )

"""WordNet: found, or unpacked whole or not at all; a damaged one is passed over."""

import shutil
import subprocess
import zipfile

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.evaluation import wordnet


def test_lexnames_are_wordnets_45():
    lines = wordnet.lexnames().splitlines()
    assert len(lines) == 45
    assert (lines[0], lines[3], lines[44]) == (
        "00\tadj.all\t3",
        "03\tnoun.Tops\t1",
        "44\tadj.ppl\t3",
    )


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine without WordNet: NLTK looks nowhere but in an empty folder."""
    import nltk

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [])
    return tmp_path


def test_without_any_source_the_message_says_what_to_do(nothing, monkeypatch):
    monkeypatch.setattr(wordnet, "download_wordnet", lambda: None)
    monkeypatch.setattr(wordnet, "unpack_debian", lambda: None)
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
def test_a_broken_wordnet_and_no_other_ends_in_the_message(nothing, monkeypatch, archive):
    monkeypatch.setattr(wordnet, "download_wordnet", lambda: None)
    monkeypatch.setattr(wordnet, "unpack_debian", lambda: None)
    broken = lay({"lexnames": b"x"}, nothing / ".cache" / "abo-vqa" / "nltk_data", archive)
    assert broken.exists()
    with pytest.raises(UserError, match=r"nltk\.downloader wordnet"):
        wordnet.ensure_wordnet()


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
@pytest.mark.parametrize("complete", [True, False])
def test_a_package_is_unpacked_whole_or_not_at_all(nothing, complete):
    tree = nothing / "made"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: wordnet-base\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\n"
        "Description: a test\n"
    )
    data = tree / "usr" / "share" / "wordnet"
    data.mkdir(parents=True)
    for name in ("data.noun", "index.noun", "data.adv")[: 3 if complete else 2]:
        (data / name).write_text("x")
    package = nothing / "wordnet-base_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    place = wordnet.unpack(package, nothing / "tree")
    assert (place is not None) == complete
    assert (wordnet.data_folder() / "corpora" / "wordnet" / "lexnames").is_file() == complete

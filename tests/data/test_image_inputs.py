"""Images as programs send them."""

import base64

import pytest

from abo_vqa.data.image_inputs import ImageInputError, ImageInputs

DATA = bytes(range(256))
PLAIN = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "value",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        PLAIN,
        base64.encodebytes(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        f"data:image/png;base64,{PLAIN}",
        f"  DATA:image/png;BASE64,{PLAIN}\n",
    ],
)
def test_forms_of_bytes(value):
    assert ImageInputs().read(value) == DATA


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no image given"),
        ("  ", "no image given"),
        (3, "no image given"),
        ("abc", "isn't|not base64"),
        ("!" * 100, "not base64"),
        ("é" * 100, "not base64"),
        ("A" * 33, "not base64"),
        ("data:image/png,abc", "must be like data:image/png;base64"),
        ("data:image/png;base64,??", "holds no base64"),
        ("https://example.com/a.jpg", "aren't fetched; send base64"),
        ("/etc/passwd", "files of this machine aren't read"),
        (base64.b64encode(bytes(2000)).decode(), "more than 1,000 bytes"),
    ],
)
def test_what_isnt_an_image(value, reason):
    with pytest.raises(ImageInputError, match=reason):
        ImageInputs(max_bytes=1000).read(value)


def test_files_only_where_allowed_and_below_the_folder(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.jpg").write_bytes(DATA)
    outside = tmp_path / "b.jpg"
    outside.write_bytes(DATA)
    (folder / "link.jpg").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    anywhere = ImageInputs(paths=True)
    assert anywhere.read(str(outside)) == anywhere.read(outside) == DATA
    below = ImageInputs(paths=True, folder=folder)
    assert below.read("sub/a.jpg") == below.read(str(folder / "sub/a.jpg")) == DATA
    names = ["../b.jpg", str(outside), "link.jpg", "loop", "sub", ".", "sub/../../b.jpg"]
    for name in [*names, ".x" * 3000, "a\0b"]:
        with pytest.raises(ImageInputError):
            below.read(name)

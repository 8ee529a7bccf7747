"""Pictures from untrusted bytes: limits before decoding, hashes that find look-alikes."""

import ast
import io
import struct
import time
import zlib
from pathlib import Path

import imagehash
import pytest
from PIL import Image

from abo_vqa.data import image_decoding
from abo_vqa.data.image_decoding import UnreadableImageError, decode, phash, sha1
from tests.support.archives import jpeg


def bits(a, b):
    return (int(a, 16) ^ int(b, 16)).bit_count()


def huge_jpeg(width, height):
    """A real JPEG whose header claims other dimensions."""
    data = bytearray(jpeg(0))
    place = data.index(b"\xff\xc0") + 5  # start of frame: length, precision, height, width
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(65_000, 65_000), (65_000, 2_000), (20_000, 12_000)])
def test_absurd_dimensions_are_refused_before_decoding(width, height):
    data = huge_jpeg(width, height)
    start = time.process_time()
    with pytest.raises(UnreadableImageError, match="absurd dimensions"):
        decode(data, "a.jpg")
    assert time.process_time() - start < 0.5


def test_a_small_png_that_unpacks_to_gigabytes_is_refused():
    def chunk(kind, body):
        packed = kind + body
        return struct.pack(">I", len(body)) + packed + struct.pack(">I", zlib.crc32(packed))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999))
    )
    with pytest.raises(UnreadableImageError, match="absurd dimensions"):
        decode(bomb, "a.png")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"GIF89a" + b"\0" * 100, "not a JPEG"),
        (b"\xff\xd8\xff", "not a JPEG"),
        (jpeg(1)[:700], "cut off or damaged"),
    ],
)
@pytest.mark.parametrize("grey_at", [None, 256])
def test_what_is_no_picture(data, reason, grey_at):
    with pytest.raises(UnreadableImageError) as error:
        decode(data, "a.jpg", by_name=True, grey_at=grey_at)
    assert str(error.value) == reason


def test_in_the_archives_the_ending_says_which_format_is_accepted():
    out = io.BytesIO()
    Image.new("RGBA", (9, 7)).save(out, "PNG")
    assert decode(out.getvalue(), "a.PNG", by_name=True).mode == "RGB"
    with pytest.raises(UnreadableImageError, match="not a JPEG"):
        decode(out.getvalue(), "a.jpg", by_name=True)
    with pytest.raises(UnreadableImageError, match="not a PNG"):
        decode(jpeg(0), "a.png", by_name=True)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_models_become_rgb(mode):
    out = io.BytesIO()
    Image.new(mode, (16, 16)).save(out, "JPEG")
    assert decode(out.getvalue(), "a.jpg").mode == "RGB"


def test_hashes_of_look_alikes_are_close_and_of_others_far():
    first = phash(jpeg(1, side=256), "a.jpg")
    assert len(first) == 16
    assert bits(first, phash(jpeg(1, side=256, quality=40), "a.jpg")) <= 4
    assert bits(first, phash(jpeg(1, side=1000), "a.jpg")) <= 4
    assert min(bits(first, phash(jpeg(seed, side=256), "a.jpg")) for seed in range(2, 12)) > 12


def test_hashes_agree_with_the_library_on_whole_pictures():
    for seed in range(10):
        data = jpeg(seed, side=256)
        library = str(imagehash.phash(Image.open(io.BytesIO(data))))
        assert bits(phash(data, "a.jpg"), library) <= 2


def test_identical_bytes_share_their_sha1():
    assert sha1(b"abc") == "a9993e364706816aba3e25717850c26c9cd0d89d"


def test_the_decoder_needs_nothing_of_the_package():
    """MLflow copies the module beside the registered model, which runs without the package."""
    tree = ast.parse(Path(image_decoding.__file__).read_text())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module)
    assert {"PIL", "numpy"} <= modules
    assert not [name for name in modules if name.startswith("abo_vqa")]

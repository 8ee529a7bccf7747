"""Small catalogues, curated by the study's rules unless a test changes them."""

from abo_vqa.data.curation import curate
from abo_vqa.data.study import STUDY_CONFIG
from tests.support.archives import write_shop


def shop(tmp_path, listings, images=None, **kwargs):
    """Archives in which, unless said otherwise, every listing's image exists."""
    if images is None:
        ids = dict.fromkeys(x["main_image_id"] for x in listings if "main_image_id" in x)
        images = {name: f"{i % 256:02x}/{i:08x}.jpg" for i, name in enumerate(ids)}
    return write_shop(tmp_path / "raw", listings, images, **kwargs)


def curated(raw, pictures=False, seed=42, **changes):
    return curate(raw, STUDY_CONFIG.model_copy(update=changes), seed, with_hashes=pictures)


def names(result):
    return result.balanced["name"].tolist()

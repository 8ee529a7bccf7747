"""What a baseline's answers depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.paths import EMBEDDINGS, TRAIN
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import FAMILIES, checkpoint_of, meant

if TYPE_CHECKING:
    from abo_vqa.config import Config


BLIND = "blind"


def inputs_of(name: str, config: Config) -> dict[str, Any]:
    """What a baseline's answers to given rows depend on.

    Raises:
        UserError: no such baseline, or the profile names no weights for it.
    """
    from abo_vqa.models.loading import identity

    if name == BLIND:
        return {"fitted_on": file_md5(TRAIN)}
    if name not in FAMILIES:
        raise UserError(f"baselines.models: no model is called {name!r}. {meant(name, [BLIND])}")
    checkpoint = checkpoint_of(name, config)
    found: dict[str, Any] = {
        "settings": checkpoint.determining(),
        "weights": fingerprint(identity(checkpoint)),
        "dtype": config.compute.dtype,
    }
    candidates = candidates_for(name, config)
    if candidates is not None:
        found["candidates"] = fingerprint(candidates)
    if name == "blip":
        # meta.json holds a digest of the vectors, which are too large to be read for one.
        files = [EMBEDDINGS / name for name in ("meta.json", "paths.csv")]
        found["vision"] = [file_md5(file) for file in files if file.is_file()]
    return found

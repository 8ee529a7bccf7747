"""What a baseline's answers depend on; loads neither torch nor transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.paths import TRAIN, embeddings_of
from abo_vqa.models.answering.ranked import ranked_candidates
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.embeddings.files import META_FILE, PATHS_FILE
from abo_vqa.models.identity import identity
from abo_vqa.models.registry import BLIND_MODEL, checkpoint_of, require_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def inputs_of(name: str, config: Config) -> dict[str, Any]:
    """Return what a baseline's answers depend on, apart from the rows.

    Args:
        name: one of `baselines.models`.
        config: the settings.

    Raises:
        UserError: there is no such baseline.
    """
    if name == BLIND_MODEL:
        return {"fitted_on": file_md5(TRAIN)}
    try:
        require_model(name, config, [BLIND_MODEL])
    except UserError as error:
        raise UserError(f"baselines.models: {error}") from error
    checkpoint = checkpoint_of(name, config)
    inputs: dict[str, Any] = {
        "settings": checkpoint.answer_settings(),
        "weights": fingerprint(identity(checkpoint)),
        "dtype": config.compute.dtype,
    }
    candidates = candidates_for(name, config)
    if (ranked := ranked_candidates(name, config)) is not None:
        inputs["candidates"] = fingerprint(ranked)
    if candidates is not None:
        inputs["candidates"] = fingerprint(candidates)
    if name == "blip":
        # The first holds a digest of the vectors, which are too large to be hashed here.
        files = [embeddings_of(name) / file for file in (META_FILE, PATHS_FILE)]
        inputs["vision"] = [file_md5(file) for file in files if file.is_file()]
    return inputs

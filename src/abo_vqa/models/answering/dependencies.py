"""What the answers of baselines and verifiers depend on; loads neither torch nor transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.paths import TRAIN, embeddings_of
from abo_vqa.core.verify_config import BLIND_VERIFIER
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
    inputs = _inputs_of_model(name, config)
    if (ranked := ranked_candidates(name, config)) is not None:
        inputs["candidates"] = fingerprint(ranked)
    if name == "blip":
        # The first holds a digest of the vectors, which are too large to be hashed here.
        files = [embeddings_of(name) / file for file in (META_FILE, PATHS_FILE)]
        inputs["vision"] = [file_md5(file) for file in files if file.exists()]
    return inputs


def verifier_inputs(name: str, config: Config) -> dict[str, Any]:
    """Return what a verifier's answers depend on, apart from the rows.

    Nothing is asked of tables: the set is verified before it is divided.

    Args:
        name: one of `verify.models`.
        config: the settings.

    Returns:
        {} for the blind one, which is fitted on the rows alone.
    """
    return {} if name == BLIND_VERIFIER else _inputs_of_model(name, config)


def _inputs_of_model(name: str, config: Config) -> dict[str, Any]:
    """Return settings, weights, and the candidates of a regime of CLIP."""
    checkpoint = checkpoint_of(name, config)
    inputs: dict[str, Any] = {
        "settings": checkpoint.answer_settings(),
        "weights": fingerprint(identity(checkpoint)),
        "dtype": config.compute.dtype,
    }
    if (candidates := candidates_for(name, config)) is not None:
        inputs["candidates"] = fingerprint(candidates)
    return inputs

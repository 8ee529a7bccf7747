"""Which version of the registered model is the champion: the one that `@champion` loads.

A version takes over only if it is better than the champion on the same held-out rows, by McNemar's
exact test. Which of the rows a version answers correctly is recorded in its tags.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from abo_vqa.core.tracking.addresses import lock_file

LEVEL = 0.05  # of the test
CHAMPION, CHALLENGER = "champion", "challenger"
_ROWS, _COUNT, _CORRECT = "held_out", "held_out_rows", "held_out_correct"


@dataclass(frozen=True)
class Decision:
    """What a version becomes.

    Attributes:
        role: `CHAMPION` or `CHALLENGER`.
        reason: why, in words.
        p_value: the test's; None if there was nothing to compare with.
    """

    role: str
    reason: str
    p_value: float | None = None

    def tags(self) -> dict[str, str]:
        """Return it as tags of the version."""
        p_value = {} if self.p_value is None else {"p_value": f"{self.p_value:.4g}"}
        return {"role": self.role, "decision": self.reason, **p_value}


def held_out_tags(rows: str, correct: Sequence[bool]) -> dict[str, str]:
    """Record which held-out rows a version answers correctly; three bytes hold 18 rows.

    Args:
        rows: a fingerprint of the rows, in their order.
        correct: whether each is answered correctly; empty if none were held out.

    Returns:
        The tags.
    """
    if not correct:
        return {_COUNT: "0"}
    bits = np.packbits(np.asarray(correct, dtype=bool)).tobytes()
    packed = base64.b64encode(bits).decode("ascii")
    return {_ROWS: rows, _COUNT: str(len(correct)), _CORRECT: packed}


def _correct(tags: Mapping[str, str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Return what `held_out_tags` recorded; None where nothing is."""
    if _CORRECT not in tags:
        return None
    bits = np.frombuffer(base64.b64decode(tags[_CORRECT]), dtype=np.uint8)
    return np.unpackbits(bits, count=int(tags[_COUNT])).astype(bool)


def compare_with_champion(
    tags: Mapping[str, str], champion: str, champion_tags: Mapping[str, str]
) -> Decision:
    """Compare a new version with the champion.

    Args:
        tags: the new version's.
        champion: the champion's version.
        champion_tags: its tags.
    """
    new, old = _correct(tags), _correct(champion_tags)
    against = f"version {champion}"
    if new is None:
        return Decision(CHALLENGER, f"not comparable with {against}: no row was held out")
    if old is None:
        return Decision(
            CHALLENGER, f"not comparable with {against}, whose held-out answers aren't recorded"
        )
    if tags[_ROWS] != champion_tags.get(_ROWS):
        return Decision(
            CHALLENGER, f"not comparable with {against}, which was validated on other rows"
        )
    from abo_vqa.core.proportions import mcnemar_p  # loads scipy

    p = mcnemar_p(new.astype(int), old.astype(int))
    better = new.sum() > old.sum() and p < LEVEL
    reason = (
        f"{'better' if better else 'not better'} than {against}: {new.mean():.1%} against "
        f"{old.mean():.1%} on {len(new):,} held-out rows, {describe_p(p)}"
    )
    return Decision(CHAMPION if better else CHALLENGER, reason, p)


def describe_p(p: float) -> str:
    """Return a p-value as it is written: "p = 0.01", "p < 0.001".

    Args:
        p: the value.
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"


def appoint(
    client: MlflowClient, name: str, version: str, profile: str, tags: Mapping[str, str]
) -> Decision | None:
    """Decide whether a version becomes its profile's champion, and set the aliases.

    Args:
        client: MLflow's client.
        name: the registered model's name.
        version: the version.
        profile: the profile it was trained with.
        tags: the version's; see `held_out_tags`.

    Returns:
        The decision; None if an earlier attempt has made the version champion.
    """
    with FileLock(lock_file()):
        holder = _holder(client, name, f"{CHAMPION}-{profile}")
        if holder is not None and str(holder.version) == str(version):
            follow_profile(client, name, profile)
            return None
        if holder is None:
            decision = Decision(CHAMPION, f"the first version of profile {profile}")
        else:
            decision = compare_with_champion(tags, holder.version, holder.tags)
        for key, value in decision.tags().items():  # before the alias: see `Returns`
            client.set_model_version_tag(name, version, key, value)
        client.set_registered_model_alias(name, f"{decision.role}-{profile}", version)
        if decision.role == CHAMPION:
            client.delete_registered_model_alias(name, f"{CHALLENGER}-{profile}")
        follow_profile(client, name, profile)
    return decision


def follow_profile(client: MlflowClient, name: str, profile: str) -> None:
    """Let `champion` and `challenger` be those of a profile.

    Args:
        client: MLflow's client.
        name: the registered model's name; it needn't exist.
        profile: the active profile.
    """
    try:
        aliases = _aliases(client, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    for role in (CHAMPION, CHALLENGER):
        version = aliases.get(f"{role}-{profile}")
        if version is not None and aliases.get(role) != version:
            client.set_registered_model_alias(name, role, version)
        elif version is None and role in aliases:
            client.delete_registered_model_alias(name, role)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the versions by alias: a database has numbers, a server texts."""
    return {alias: str(at) for alias, at in client.get_registered_model(name).aliases.items()}


def _holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that has an alias, if one has."""
    version = _aliases(client, name).get(alias)
    return None if version is None else client.get_model_version(name, version)

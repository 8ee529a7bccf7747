"""The settings of the published study (Muthanna I B, Bhargav and Peter Jay, 2025)."""

from __future__ import annotations

from abo_vqa.core.config import CurateConfig
from abo_vqa.data.rules import FIELDS

STUDY_CONFIG = CurateConfig(
    cap=5000,
    language="first_en",
    required=FIELDS,
    excluded_images=("518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL"),
    balance="cap",
    temperature=0.5,
)
"""How the study curates."""

STUDY_SEED = 42
"""The study's random state, for balancing and for the split."""

STUDY_TEST_SIZE = 0.2
"""The share of images that the study tests on."""

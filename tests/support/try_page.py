"""A small project for the page: tiny models, an adapter, products with and without markup."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.support import workspaces
from tests.support.adapters import adapter_for

MARKUP = "<img src=x onerror=\"document.title='hacked'\"> ${1+1} {{value}} & 'co'"


def project_with_adapter(root: Path) -> Path:
    """A workspace with BLIP, CLIP and ViLT, an adapter of BLIP's, and names for the products."""
    workspaces.workspace(root, "blip", "clip", "vilt", images=12, broken=0)
    adapter_for(root / "models/blip", root / "models/adapter", ["query", "value"])
    config = root / "models/adapter/adapter_config.json"
    config.write_text(config.read_text().replace(str(root / "models/blip"), "models/blip"))
    paths = sorted(set(pd.read_csv(root / "data/vqa.csv")["image_path"]))
    names = [MARKUP, *(f"plain product {i}" for i in range(1, len(paths)))]
    kinds = ["LAMP", "CELLULAR_PHONE_CASE", "SHOES"]
    products = {
        "image_path": paths,
        "name": names,
        "product_type": [kinds[i // 4 % 3] for i in range(len(paths))],
    }
    pd.DataFrame(products).to_csv(root / "data/balanced.csv", index=False)
    return root

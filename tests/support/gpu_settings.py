"""The settings of a workspace for a short way through the stages on some device."""

from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.config import load_config
from tests.support.training import QUICK

LORA = {**QUICK, "max_grad_norm": 1.0, "batch_size": 8, "dropout": 0.0, "threads": 1}


def settings(device: str, dtype: str = "float32", stored: str = "float32") -> Any:
    """Change params.yaml of the current folder; returns the configuration.

    Args:
        dtype: of the models' arithmetic. stored: of the kept vision outputs.
    """
    file = Path("params.yaml")
    params = yaml.safe_load(file.read_text())
    params["compute"] = {"device": device, "dtype": dtype}
    params["embed"]["dtype"] = stored
    params["lora"] |= LORA
    params["threads"] = 1
    file.write_text(yaml.safe_dump(params))
    return load_config()

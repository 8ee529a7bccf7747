"""The registered model: an MLflow pyfunc "model from code" that answers questions about pictures.

MLflow copies this file beside the adapter and runs it to load the model, so it imports nothing of
the package: the model answers wherever torch, transformers and peft are installed.

    model = mlflow.pyfunc.load_model("models:/abo-vqa-blip-lora/1")
    model.predict(pandas.DataFrame({"image": ["chair.jpg"], "question": ["What color is it?"]}))
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd


class BlipAdapter(mlflow.pyfunc.PythonModel):  # type: ignore[misc, unused-ignore]
    """BLIP with a LoRA adapter. Input columns: image (a path), question. Output: answer."""

    def load_context(self, context: Any) -> None:
        import json
        from pathlib import Path

        from peft import PeftModel
        from transformers import AutoProcessor, BlipForQuestionAnswering

        adapter = context.artifacts["adapter"]
        described = json.loads((Path(adapter) / "adapter_config.json").read_text())
        base = context.artifacts.get("base", described["base_model_name_or_path"])
        revision = None if "base" in context.artifacts else described.get("revision")
        model = BlipForQuestionAnswering.from_pretrained(base, revision=revision)
        self.model = PeftModel.from_pretrained(model, adapter).eval()
        self.processor = AutoProcessor.from_pretrained(adapter)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        import torch
        from PIL import Image

        answers = []
        # One row at a time: BLIP's stock `generate` ignores the padding of a mixed batch.
        for path, question in zip(model_input["image"], model_input["question"], strict=True):
            with Image.open(path) as image:
                inputs = self.processor(image.convert("RGB"), question, return_tensors="pt")
            with torch.inference_mode():
                tokens = self.model.generate(**inputs)
            answers.append(self.processor.decode(tokens[0], skip_special_tokens=True))
        return pd.DataFrame({"answer": answers}, index=model_input.index)


mlflow.models.set_model(BlipAdapter())

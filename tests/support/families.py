"""Fixtures: tiny checkpoints, made once a session, and how a profile would name them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from tests.support import models as tiny
from tests.support import workspaces

torch.set_num_threads(1)
CPU = ComputeConfig(device="cpu", dtype="float32")
PROMPTS = {
    "blip2": "Question: {question} Answer in one word:",
    "clip": "Question: {question} Answer: {candidate}",
    "llava": "<image> Question: {question} Answer:",
    "chat": "{question} answer in one word.",
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: make(root / name) for name, make in tiny.MAKERS.items()}


@pytest.fixture(scope="session")
def rows() -> SimpleNamespace:
    """24 rows: each of 6 pictures with 4 questions of different lengths; objects repeat."""
    pictures = workspaces.pictures(6)
    images = [picture for picture in pictures for _ in range(4)]
    questions = [
        workspaces.QUESTIONS[(3 * i + k) % len(workspaces.QUESTIONS)]
        for i in range(6)
        for k in range(4)
    ]
    return SimpleNamespace(pictures=pictures, images=images, questions=questions)


@pytest.fixture(scope="session")
def load(folders: dict[str, Path]):
    """load("blip"): a family's class with its tiny weights; settings can be changed."""
    from abo_vqa.models.blip.model import Blip
    from abo_vqa.models.blip2 import Blip2
    from abo_vqa.models.chat import Chat
    from abo_vqa.models.clip.model import Clip
    from abo_vqa.models.llava import Llava
    from abo_vqa.models.vilt import Vilt

    classes = {
        "blip": Blip, "blip2": Blip2, "chat": Chat, "clip": Clip, "llava": Llava, "vilt": Vilt,
    }  # fmt: skip

    def loader(name: str, settings: dict | None = None, compute: ComputeConfig = CPU, **options):
        named = {"path": str(folders[name]), "prompt": PROMPTS.get(name, "{question}")}
        checkpoint = CheckpointConfig(**{**named, **(settings or {})})
        return classes[name].load(checkpoint, compute, **options)

    return loader

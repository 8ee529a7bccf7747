"""`abo-vqa profiles`: write anew the profiles that are another one with some changes."""

from __future__ import annotations

import argparse
import os

from abo_vqa.core.files import atomic_write, read_utf8
from abo_vqa.core.paths import PROFILES
from abo_vqa.core.profiles import complete_profile
from abo_vqa.core.scratch import project_root


def command(_args: argparse.Namespace) -> int:
    """Complete every profile with `extends`.

    Returns:
        The exit code.
    """
    os.chdir(project_root())
    for file in sorted(PROFILES.glob("*.yaml")):
        text = complete_profile(file)
        if not text:
            continue
        if text == read_utf8(file):
            print(f"{file} is up to date")
            continue
        with atomic_write(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{file} written")
    return 0

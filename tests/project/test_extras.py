"""Optional dependencies are installed in one way, by make, and under names that there are."""

import re
import subprocess
import tomllib

from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def texts() -> dict[str, str]:
    """What people read, by path: pages, messages and settings."""
    folders = ("src", "docs", "notebooks", "conf", "tools", "*.md", "params.yaml", "Makefile")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [n for n in listed.stdout.splitlines() if not n.endswith((".png", ".jpg"))]
    return {n: (ROOT / n).read_text(encoding="utf-8") for n in names if (ROOT / n).is_file()}


def test_nothing_has_people_install_this_package_from_an_index():
    pattern = re.compile(r"install [^`]{0,90}(?:abo-vqa|\.)\[[a-z]")
    found = {name for name, text in texts().items() if pattern.search(text)}
    assert found == set()


def test_extras_that_pages_and_messages_name_exist():
    extras = set(PROJECT["optional-dependencies"])
    named = {
        (name, extra)
        for name, text in texts().items()
        for several in re.findall(r"make setup EXTRAS=([a-z0-9,]+)", text)
        for extra in several.split(",")
    }
    assert len(named) > 10
    assert {(name, extra) for name, extra in named if extra not in extras} == set()

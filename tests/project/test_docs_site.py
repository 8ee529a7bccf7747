"""The documentation as a site: complete, linked, without anything from elsewhere."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from reference import meanings, modules, settings, stages

from abo_vqa.cli import COMMANDS
from abo_vqa.reporting.pdf import find_browser
from tests.support import ROOT
from tests.support.chrome import chromium

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ENTRY = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")


class Loader(yaml.SafeLoader):
    """Without MkDocs's own tags."""


Loader.add_multi_constructor("", lambda loader, suffix, node: None)
NAV = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]


def listed(entries: list) -> list[str]:
    """The pages of the navigation, in its order."""
    found: list[str] = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += listed(value) if isinstance(value, list) else [value]
    return found


def test_every_page_is_in_the_navigation_once():
    made = ["changelog.md", "contributing.md"]  # by tools/reference/hooks.py
    names = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert sorted(listed(NAV)) == sorted([*names, *made]), "add the page to `nav` in mkdocs.yml"


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).lower()
        found.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words)))
    return found


@pytest.mark.parametrize("page", [*ENTRY, *PAGES], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {path}#{anchor}"


def test_every_setting_is_explained():
    lacking = [s.key for group in settings.all_settings().values() for s in group if not s.meaning]
    assert lacking == [], "say behind the key in params.yaml, or behind the field, what it does"


def test_a_setting_without_a_comment_is_noticed(tmp_path, monkeypatch):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(re.sub(r"(\n  keep_checkpoints: 2).*", r"\1", text))
    monkeypatch.setattr(settings, "PARAMS", tmp_path / "params.yaml")
    lora = settings.all_settings()["lora"]
    assert [s.key for s in lora if not s.meaning] == ["lora.keep_checkpoints"]


def test_the_reference_has_every_key_of_the_settings_files():
    known = {s.key for group in settings.all_settings().values() for s in group}
    tuned = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    keys = {
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in tuned.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    assert keys <= known
    assert set(meanings.commented_settings(ROOT / "params.yaml")) >= keys
    page = stages.settings_page()
    assert "whole number ≥ 1" in page
    assert "`null` (sample: `60`, abo: `5000`)" in page


@pytest.mark.parametrize("page", [*ENTRY, *PAGES], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_settings_that_pages_name_exist(page):
    """`lora.r` in prose, and `-S lora.r=8` in commands."""
    known = {s.key for group in settings.all_settings().values() for s in group}
    sections = {key.partition(".")[0] for key in known} - {"data", "models", "report"}
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+\.[a-z_.]+?)(?:[:=][^`]*)?`", text))
    named |= set(re.findall(r"-S '?\+?([a-z]+\.[a-z_]+)", text))
    free = ("split.cosine.", "generate.json", "verify.py", "split.py")
    unknown = {n for n in named if n.partition(".")[0] in sections and n not in known}
    assert [name for name in sorted(unknown) if not name.startswith(free)] == []


def test_every_stage_has_a_page_with_its_name():
    pages = {page.stem for page in (DOCS / "stages").glob("*.md")} - {"index"}
    assert pages == set(stages.stage_names())
    for name in pages:
        text = (DOCS / f"stages/{name}.md").read_text(encoding="utf-8")
        assert f"<!-- generated: stage {name} -->" in text
        assert "**Reads**" in stages.stage_section(name)


def test_every_module_is_in_the_api_reference():
    listed_modules = {name for names in modules.packages().values() for name in names}
    files = {p for p in (ROOT / "src/abo_vqa").rglob("*.py") if not p.name.startswith("__")}
    assert len(listed_modules) == len(files)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:] + done.stdout[-5000:]
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(https?:[^\" >]+)", text)
        loaded += re.findall(r"<link[^>]* rel=\"?stylesheet[^>]* href=\"?(https?:[^\" >]+)", text)
        assert loaded == [], page
    commands = (site / "commands.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="{name}"' not in commands] == []
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert {"settings.html#lora", "troubleshooting.html#the-disk-is-full"} <= places
    assert "api/abo_vqa.core.html#abo_vqa.core.config.load_config" in places


@pytest.mark.slow
def test_search_works_on_a_page_opened_from_the_disk(site):
    with chromium(find_browser()) as page:
        page.open((site / "index.html").as_uri())
        page.press("/")
        page.tab.keyboard.type("phash_distance")
        results = page.tab.locator(".md-search-result__item")
        results.first.wait_for(timeout=30_000)
        links = [link.get_attribute("href") for link in results.locator("a").all()]
        assert any("settings.html" in link for link in links)
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []

"""What MkDocs calls: generated sections, pages of modules, links that leave the folder `docs`."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from mkdocs.structure.files import File  # noqa: E402

from reference import commands, modules, stages  # noqa: E402

# As `abo_vqa.cli`: it is imported with PEFT, and lists the kernels that this machine lacks.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
ROOT = Path(__file__).parents[2]
_GENERATED = re.compile(r"^<!-- generated: (\w+) ?(\w*) -->$", re.MULTILINE)
_MESSAGE = re.compile(r"^<!-- message of [\w-]+ -->\n```text$", re.MULTILINE)
_OUTSIDE = re.compile(r"\]\((?:\.\./)+([\w./-]+)(#[\w-]+)?\)")
# Files of the root that are pages of the site, too.
_ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_config(config: Any) -> Any:
    """Add the modules to the navigation.

    Args:
        config: MkDocs's.
    """
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = [*entry["API"], *modules.api_nav()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that no file in `docs` has.

    Args:
        files: those that MkDocs has read.
        config: MkDocs's.
    """
    for name, page in _ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for package, names in modules.packages().items():
        content = modules.module_page(package, names)
        files.append(File.generated(config, f"api/{package}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what is generated, and have links to files beside `docs` lead to the repository.

    Args:
        markdown: the page's text.
        page: its place.
        config: MkDocs's.
        files: all of them.
    """
    del files
    markdown = _GENERATED.sub(lambda match: _generate(*match.groups()), markdown)
    markdown = _MESSAGE.sub("``` { .text .message }", markdown)
    depth = page.file.src_uri.count("/")
    if page.file.src_uri in _ROOT_PAGES.values():
        markdown = re.sub(r"\]\((?!http|#|[\w/-]+\.(?:md|svg))([\w./-]+)\)", r"](../\1)", markdown)

    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if path in _ROOT_PAGES:
            return f"]({'../' * depth}{_ROOT_PAGES[path]}{anchor})"
        if (Path(config.docs_dir) / path).exists() and depth:
            return match[0]
        return f"]({config.extra['source']}/{path}{anchor})"

    return _OUTSIDE.sub(link, markdown)


def _generate(kind: str, name: str) -> str:
    if kind == "stage":
        return stages.stage_section(name)
    return {"commands": commands.commands_page, "settings": stages.settings_page}[kind]()

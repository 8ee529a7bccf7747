"""Every command of the documentation is run by a test, or says why none can run it."""

import ast
import importlib
import re

import pytest
import yaml

from tests.support import ROOT
from tests.support.page_commands import unknown, unknown_in_prose
from tests.support.page_runs import clone_with_own_files, run_block
from tests.support.pages import PAGES, Block, blocks, required_words, strings_of

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.info == "bash"]
CONVENTION = """
Put one of these directly above the fence (CONTRIBUTING.md, "Documentation"):
  <!-- run -->                    the default test runs it, in a clone without results
  <!-- run: slow -->              the slow test runs it, in a clone after `dvc repro`
  <!-- tested by tests/x.py -->   another test runs it: its strings have the options of the command
  <!-- not run: why not -->"""


LIES = """
```bash
abo-vqa show --nonsense
```
<!-- tested by tests/commands/test_show.py -->
```bash
abo-vqa report --pdf
dvc repeat
```
<!-- run -->
```bash
echo red
```
```text
blue
```
"""


def by_place(found: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


def covers(marker: str, command: list[str]) -> bool:
    kind, _, test = marker.partition("tested by ")
    return bool(kind) or required_words(command) <= strings_of(test)


def problem(block: Block) -> str | None:
    """Why a block's commands aren't accounted for."""
    for marker in block.markers:
        test = marker.removeprefix("tested by ").partition("::")[0]
        if marker.startswith("tested by ") and not (ROOT / test).is_file():
            return f"{block.place}: there is no {test}"
    for command in block.commands():
        if not block.markers:
            return f"{block.place}: nothing says how `{' '.join(command)}` is tested.{CONVENTION}"
        if not any(covers(marker, command) for marker in block.markers):
            missing = [
                f"{marker} lacks {', '.join(sorted(required_words(command) - strings_of(test)))}"
                for marker in block.markers
                for test in [marker.removeprefix("tested by ")]
            ]
            return f"{block.place}: `{' '.join(command)}` isn't in it: {'; '.join(missing)}"
    return None


def test_every_command_is_run_or_says_why_not():
    problems = [text for block in SHELL if (text := problem(block))]
    assert not problems, "\n".join(problems)


def test_every_command_exists_with_its_options():
    problems = [
        f"{block.place}: `{' '.join(command)}`: {reason}"
        for block in SHELL
        for command in block.commands()
        if (reason := unknown(command))
    ]
    assert not problems, "\n".join(problems)


def test_commands_named_in_prose_exist():
    texts = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    assert {name: found for name, text in texts.items() if (found := unknown_in_prose(text))} == {}


def test_code_stands_in_fences_that_say_what_it_is():
    names = {block.place: block.info for block in BLOCKS}
    vague = {"", "sh", "shell", "console", "zsh", "mermaid", "shell-session"}
    assert {place: info for place, info in names.items() if info in vague} == {}
    prompts = [block.place for block in SHELL if re.search(r"^\s*\$ ", block.text, re.MULTILINE)]
    assert prompts == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_is_indented_instead(page):
    """Four blanks after a blank line, outside lists: code that nothing collects."""
    outside = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    paragraphs = [p for p in re.split(r"\n\s*\n", outside) if p.startswith("    ")]
    before = re.split(r"\n\s*\n", outside)
    indented = [
        p for p in paragraphs if not re.match(r"\s*([-*]|\d+\.) ", before[before.index(p) - 1])
    ]
    assert indented == []


def test_yaml_can_be_read():
    for block in BLOCKS:
        if block.info in ("yaml", "json"):
            yaml.safe_load(block.text)


def test_python_compiles_and_what_it_imports_exists():
    for block in BLOCKS:
        if block.info != "python":
            continue
        for node in ast.walk(ast.parse(block.text, block.place)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("abo_vqa"):
                module = importlib.import_module(str(node.module))
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert names == [], block.place


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A clone without data or results."""
    return clone_with_own_files(tmp_path_factory.mktemp("docs"))


@by_place([block for block in SHELL if "run" in block.markers])
def test_the_page_shows_what_the_command_prints(block, plain):
    run_block(block, plain)


def test_a_page_that_lies_is_noticed(tmp_path):
    """The checks above can fail: an unmarked command, one that isn't tested, another output."""
    page = tmp_path / "page.md"
    page.write_text(LIES)
    unmarked, untested, other = blocks(page)[:3]
    assert "nothing says how `abo-vqa show --nonsense` is tested" in str(problem(unmarked))
    assert "unrecognized arguments: --nonsense" in str(unknown(unmarked.commands()[0]))
    assert "lacks --pdf" in str(problem(untested))
    assert unknown(untested.commands()[1]) == "dvc refuses repeat"
    with pytest.raises(AssertionError, match="the command printed\nred"):
        run_block(other, tmp_path)

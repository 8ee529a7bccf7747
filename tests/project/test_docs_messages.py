"""The messages that docs/troubleshooting.md quotes are those of the programs that it names."""

import ast
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^<!-- message of ([\w-]+) -->\n```text\n(.+?)\n```$", PAGE, re.MULTILINE)
# Pages have tables of messages, too: the first column of those that are headed so.
TABLES = re.compile(r"^\| message \|.*\n\|[-|: ]+\n((?:\|.*\n)+)", re.MULTILINE)
ROWS = [
    (page.name, message.strip())
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for table in TABLES.findall(page.read_text(encoding="utf-8"))
    for message in re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", table, re.MULTILINE)
    for message in [message[0] or message[1]]
]
ANYTHING = "…"


def text_of(node: ast.AST) -> str | None:
    """A string as it is printed, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or ANYTHING for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (text_of(node.left) or ANYTHING) + (text_of(node.right) or ANYTHING)
    return None


def strings_in(folder: Path) -> str:
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.py")))
    texts = (text_of(node) for tree in trees for node in ast.walk(tree))
    return "\n".join(text for text in texts if text)


@cache
def strings_of(program: str) -> str:
    """Everything that a program can print."""
    if program == "abo-vqa":
        return strings_in(ROOT / "src")
    if program == "Makefile":
        return (ROOT / "Makefile").read_text(encoding="utf-8")
    if program == "git":
        folder = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
        binary = Path(folder.stdout.strip()) / "git"
        return (
            (binary if binary.is_file() else Path(shutil.which("git")))
            .read_bytes()
            .decode("latin1")
        )
    return strings_in(Path(find_spec(program).origin).parent)


def is_printed(message: str, program: str) -> bool:
    """Whether all parts of a message stand in one string of a program, in this order."""
    parts = [re.escape(part) for part in message.split(ANYTHING)]
    return re.search(r"[^\n]*?".join(parts), strings_of(program)) is not None


def test_there_is_a_message_for_each_common_problem():
    assert len(MESSAGES) > 20
    assert {"abo-vqa", "Makefile", "git", "dvc", "dvc_data"} == {program for program, _ in MESSAGES}
    assert PAGE.count("```text") == len(MESSAGES), "each ```text needs `<!-- message of … -->`"


@pytest.mark.parametrize(("program", "message"), MESSAGES, ids=[text[:40] for _, text in MESSAGES])
def test_the_program_prints_it(program, message):
    assert is_printed(message, program), f"{program} prints nothing like this: {message}"


@pytest.mark.parametrize(("page", "message"), ROWS, ids=[f"{p}: {m[:30]}" for p, m in ROWS])
def test_tables_of_messages_are_right(page, message):
    assert is_printed(message, "abo-vqa"), f"{page}: nothing prints {message}"


def test_another_message_would_be_noticed():
    assert not is_printed("out of memory: going on with … rows", "abo-vqa")

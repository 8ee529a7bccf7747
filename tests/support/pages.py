"""The code blocks of the documentation: what stands in them, and what is said above them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import ROOT

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
MARKER = re.compile(r"<!--\s*(run|run: slow|tested by [^>]+?|not run: [^>]+?)\s*-->")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(\S*).*$")
_SEPARATORS = {"&&", "||", "|", ";", "&"}
# What needs no test: it only prepares the commands beside it.
_SHELL = {"cat", "cd", "cp", "export", "mkdir", "rm", "source"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    info: str
    text: str
    markers: tuple[str, ...]
    output: str | None = None

    @property
    def place(self) -> str:
        name = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name
        return f"{name}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The commands in words, without what only surrounds them (`time`, `cd`, variables)."""
        return list(split_commands(self.text))


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page; the output of one is a `text` fence directly below it."""
    found: list[Block] = []
    ends: list[int] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if not opening:
            number += 1
            continue
        first, indent = number + 1, len(opening[1])
        number = first
        while not re.match(rf"^\s*{re.escape(opening[2])}\s*$", lines[number]):
            number += 1
        text = "\n".join(line[indent:] for line in lines[first:number])
        block = Block(page, first, opening[3], text + "\n", tuple(_markers(lines, first - 1)))
        follows = ends and not "".join(lines[ends[-1] + 1 : first - 1]).strip()
        if block.info == "text" and follows and found[-1].info == "bash":
            found[-1] = Block(*list(vars(found[-1]).values())[:5], block.text)
        found.append(block)
        ends.append(number)
        number += 1
    return found


def _markers(lines: list[str], fence: int) -> Iterator[str]:
    """The comments directly above a fence, from the top."""
    start = fence
    while start and (MARKER.fullmatch(lines[start - 1].strip())):
        start -= 1
    return (MARKER.fullmatch(line.strip())[1] for line in lines[start:fence])


def split_commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a script."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _SEPARATORS:
                command.append(word)
                continue
            yield from _bare(command)
            command = []


def _bare(words: list[str]) -> Iterator[list[str]]:
    if any(word in ("<", ">", ">>") for word in words):
        words = words[: next(i for i, word in enumerate(words) if word in ("<", ">", ">>"))]
    while words and (words[0] == "time" or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if words[:2] == ["bash", "-c"]:
        yield from split_commands(words[2])
    elif words and words[0] not in _SHELL:
        yield words


def required_words(command: list[str]) -> set[str]:
    """What a test that runs a command has to contain: its subcommands and options, no values."""
    program, *rest = command
    if program == "python" and rest[:1] == ["-m"]:
        program, *rest = rest[1:]
    elif program in ("python", "python3") and rest and not rest[0].startswith("-"):
        program, *rest = rest if rest[0] != "src/abo_vqa" else ["abo-vqa", *rest[1:]]
    options = {word.split("=")[0] for word in rest if word.startswith("-")}
    leading = []
    for word in rest:
        if word.startswith("-"):
            break
        leading.append(word)
    if program == "dvc":
        grouped = {"exp", "queue", "remote", "params", "metrics", "plots", "stage"}
        return options | set(leading[: 2 if leading[:1] and leading[0] in grouped else 1])
    if program in ("abo-vqa", "git"):
        return options | set(leading[:1])
    if program == "make":
        return {word for word in leading if "=" not in word}
    return options | {Path(program).stem}


@cache
def strings_of(test: str) -> frozenset[str]:
    """All words in the strings of a test file, or of one of its functions: `file::name`."""
    path, _, name = test.partition("::")
    tree: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    if name:
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        tree = next(f for f in functions if f.name == name.partition("[")[0])
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    words = {word for text in texts if isinstance(text, str) for word in re.split(r"[\s=]+", text)}
    return frozenset(words | {Path(word).stem for word in words if word.endswith(".py")})

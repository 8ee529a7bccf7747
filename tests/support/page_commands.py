"""Whether the commands of the documentation exist, with the options that they are shown with."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dvc.cli import DvcParserError

from abo_vqa import cli
from tests.support import ROOT

_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_PLACEHOLDER = re.compile(r"[…<>\[\]]")


def unknown(command: list[str]) -> str | None:
    """What of a command doesn't exist; None if nothing is known to be wrong."""
    program, *rest = command
    if program in ("python", "python3") and rest[:1] == ["src/abo_vqa"]:
        program, rest = "abo-vqa", rest[1:]
    if program == "abo-vqa":
        return _unknown_of_ours(rest)
    if program == "dvc":
        return _refusal(_dvc_parser(), rest)
    if program == "make":
        words = {word for word in rest if "=" not in word and not word.startswith("-")}
        return ", ".join(sorted(words - _TARGETS)) or None
    if program in ("python", "python3", "bash", "pytest"):
        return ", ".join(_unknown_of_a_script(rest)) or None
    return None


def unknown_in_prose(text: str) -> list[str]:
    """Commands of ours in `code` within prose that don't exist, or not with these options."""
    problems = []
    for name, rest in re.findall(r"`abo-vqa ([a-z]+)\b([^`]*)`", text):
        if name not in cli.COMMANDS:
            problems.append(f"abo-vqa {name}")
            continue
        parsers = [_parser(name, own_tables) for own_tables in (False, True)]
        known = {option for parser in parsers for option in _all_options(parser)}
        options = set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest))
        problems += [f"abo-vqa {name} {option}" for option in sorted(options - known)]
    return problems


def _all_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a parser and of the parsers below it."""
    yield from parser._option_string_actions
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _all_options(below)


def _unknown_of_ours(rest: list[str]) -> str | None:
    name = next(iter(rest), "")
    if name.startswith("-"):
        return _refusal(cli._top_parser(), rest)
    if name not in cli.COMMANDS:
        return f"abo-vqa has no command {name!r}"
    return _refusal(_parser(name, len(rest) > 1), rest[1:])


@cache
def _parser(name: str, own_tables: bool) -> argparse.ArgumentParser:
    return cli.command_parser(name, own_tables=own_tables)[0]


@cache
def _dvc_parser() -> argparse.ArgumentParser:
    from dvc.cli.parser import get_main_parser

    return get_main_parser()


def _refusal(parser: argparse.ArgumentParser, words: list[str]) -> str | None:
    """What a parser says against words; `--help` and `--version` end it with success."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            parser.parse_args(words)
    except SystemExit as end:
        return output.getvalue().strip().splitlines()[-1] if end.code else None
    except DvcParserError:  # after it has said why in its log
        return f"dvc refuses {' '.join(words)}"
    return None


def _unknown_of_a_script(rest: list[str]) -> Iterator[str]:
    """Files that aren't there, and options that the first one doesn't mention."""
    files = [word.partition("::")[0] for word in rest if word.endswith(".py") or ".py::" in word]
    yield from (file for file in files if not (ROOT / file).is_file())
    if files and files[0].startswith("benchmarks") and (ROOT / files[0]).is_file():
        sources = [ROOT / files[0], *(ROOT / "benchmarks/helpers").rglob("*.py")]
        text = "\n".join(Path(source).read_text(encoding="utf-8") for source in sources)
        for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
            if f'"{option}"' not in text:
                yield f"{files[0]} has no option {option}"

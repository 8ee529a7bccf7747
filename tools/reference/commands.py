"""The reference of all commands, from their parsers."""

from __future__ import annotations

import argparse

from abo_vqa import cli
from reference.tables import markdown_table, plain_text


def commands_page() -> str:
    """Return a section for each command: what it does, its usage, its options."""
    return "\n".join(_section(name) for name in cli.COMMANDS)


def _section(name: str) -> str:
    own = name in cli.OWN_TABLES
    stage = cli.COMMANDS[name][0].startswith("abo_vqa.stages")
    lines = [f"### {name}", "", _sentence(cli.COMMANDS[name][1])]
    if stage:
        lines += ["", f"A stage of the pipeline: [{name}](stages/{name}.md)."]
    parser = cli.command_parser(name, own_tables=own)[0]
    if own:
        lines += ["", "Without options it runs the stage; with options, on tables of your own:"]
    lines += ["", "```text", parser.format_usage().strip(), "```", "", options_table(parser)]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    text = plain_text(text)
    return text[0].upper() + text[1:] + "."


def options_table(parser: argparse.ArgumentParser) -> str:
    """Return a parser's options as a table; a sentence if it has none.

    Args:
        parser: of one command.
    """
    actions = [a for a in parser._actions if "--help" not in a.option_strings]
    shown = [a for a in actions if a.help is not argparse.SUPPRESS]
    if not shown:
        return "It has no options: its settings are in `params.yaml`.\n"
    rows = [(_name(parser, action), _meaning(parser, action)) for action in shown]
    return markdown_table(["option", "meaning"], rows)


def _name(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    if not action.option_strings:
        return f"`{formatter._format_args(action, action.dest)}`"
    return ", ".join(f"`{f'{option} {value}'.strip()}`" for option in action.option_strings)


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    parts = [plain_text(text)]
    if action.required:
        parts.append("(required)")
    elif (
        action.default not in (None, False, argparse.SUPPRESS, [])
        and str(action.default) not in text
    ):
        parts.append(f"(default: `{action.default}`)")
    return " ".join(part for part in parts if part)

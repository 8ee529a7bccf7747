"""The data card that goes with an export: README.md, from the run's own numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import DATA, METRICS, TEST, TRAIN
from abo_vqa.reporting.publish.croissant import DESCRIPTIONS
from abo_vqa.reporting.publish.parquet import Row, Split, kind_of

if TYPE_CHECKING:
    from abo_vqa.config import Config

_LICENCES = {
    "CC BY 4.0": ("cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "MIT": ("mit", "https://opensource.org/license/mit"),
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_TOP = 10
BLIND = {
    "question": "most frequent answer to the same question",
    "type": "most frequent answer to its type of question",
    "chance": "chance",
}


def licence(config: Config) -> tuple[str, str]:
    """(identifier on a model hub, address) of the data's licence; an unknown one keeps its name."""
    return _LICENCES.get(config.data.licence, ("other", config.data.licence))


def _front_matter(config: Config, splits: Sequence[Split], columns: Sequence[str]) -> str:
    """What hubs and `datasets` read: YAML between two lines of dashes."""
    import yaml

    rows = sum(split.rows for split in splits)
    size = next((name for most, name in _SIZES if rows < most), "n>1M")
    features = [
        {"name": name, "list": "string"}
        if kind_of(name) == "choices"
        else {"name": name, "dtype": kind_of(name)}
        for name in columns
    ]
    tasks = ["visual-question-answering"]
    if "choices" in columns:
        tasks.append("multiple-choice")
    value = {
        "pretty_name": "One-word questions about Amazon Berkeley Objects",
        "language": ["en"],
        "license": licence(config)[0],
        "task_categories": tasks,
        "size_categories": [size],
        "annotations_creators": ["machine-generated"],
        "tags": ["vqa", "products", "croissant"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split.name, "path": f"data/{split.name}-*"} for split in splits
                ],
            }
        ],
        "dataset_info": {
            "features": features,
            "splits": [
                {"name": split.name, "num_bytes": split.loaded, "num_examples": split.rows}
                for split in splits
            ],
            "download_size": sum(split.size for split in splits),
            "dataset_size": sum(split.loaded for split in splits),
        },
    }
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _blind_on_test() -> dict[str, float]:
    """Accuracy of the baselines that see no picture, where this test set has been evaluated.

    `reports/metrics.json` is in git, and may be of another set: dvc.lock knows.
    """
    from abo_vqa.reporting.provenance import recorded

    if not recorded("evaluate", TEST, METRICS):
        return {}
    found = read_json(METRICS)
    return {name: scores["accuracy"] for name, scores in found.items() if name.startswith("blind-")}


def _split_settings(config: Config) -> dict[str, Any]:
    """How the two sides were made: as dvc.lock has it, or params.yaml where it doesn't know them.

    Returns:
        group, test_size, seed.
    """
    from abo_vqa.reporting.provenance import recorded

    entry = recorded("split", TRAIN, TEST) or {}
    made = entry.get("params", {}).get("params.yaml", {})
    settings = {**config.split.model_dump(), **made.get("split", {})}
    return {**settings, "seed": made.get("seed", config.seed)}


def render(
    config: Config,
    rows: Sequence[Row],
    splits: Sequence[Split],
    columns: Sequence[str],
    blind_choices: Mapping[str, float],
) -> str:
    """README.md.

    Args:
        blind_choices: `choices.blind_accuracy`, {} without choices.
    """
    from jinja2 import PackageLoader

    from abo_vqa.reporting.cards import kind_of_answers, shown_path, writer
    from abo_vqa.reporting.markdown import table
    from abo_vqa.reporting.pages import environment
    from abo_vqa.reporting.tables import AUDIT, flatten
    from abo_vqa.reporting.words import count, number

    funnel, generated, audit = (
        read_json(DATA / f"{name}.json") for name in ("funnel", "generate", "audit")
    )
    dropped = flatten(funnel.pop("dropped", {}))
    answers = Counter(row["answer"] or "(empty)" for row in rows)
    templates = environment().overlay(loader=PackageLoader("abo_vqa.reporting.publish"))
    text = templates.get_template("card.md.j2").render(
        config=config,
        split_table=table(
            ("", "questions", "pictures", "files", "MB"),
            [
                (s.name, count(s.rows), count(s.pictures), len(s.shards), number(s.size / 1e6, 1))
                for s in splits
            ],
        ),
        total=sum(split.rows for split in splits),
        pictures=sum(split.pictures for split in splits),
        unreadable=sum(split.unreadable for split in splits),
        columns=[(name, DESCRIPTIONS[name]) for name in columns],
        funnel=flatten(funnel),
        dropped=sorted(dropped, key=lambda item: (-item[1], item[0])),
        generated=flatten({k: v for k, v in generated.items() if k not in ("kinds", "corpus")}),
        kinds=sorted(generated["kinds"].items(), key=lambda item: (-item[1], item[0])),
        corpus=generated["corpus"],
        audit=audit,
        split=_split_settings(config),
        audit_table=[(AUDIT.get(name, name), value) for name, value in flatten(audit)],
        answers=sorted(answers.items(), key=lambda item: (-item[1], item[0]))[:_TOP],
        kind_of_answers=kind_of_answers(row["answer"] for row in rows),
        raw=shown_path(config.data.raw),
        writer=writer(config.generate),
        blind=sorted(_blind_on_test().items()),
        blind_choices=blind_choices,
        blind_table=[(BLIND[name], value) for name, value in blind_choices.items()],
        options=max((len(row["choices"]) for row in rows), default=0) if blind_choices else 0,
        licence_url=licence(config)[1],
    )
    return _front_matter(config, splits, columns) + text

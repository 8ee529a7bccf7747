"""Model card, data card and an export's card, from the numbers of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from abo_vqa.core.json_files import read_json
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.paths import (
    AUDIT,
    FINETUNED_MODEL,
    FUNNEL,
    GENERATION,
    VERIFICATION,
)
from abo_vqa.reporting.ceiling import review_extent
from abo_vqa.reporting.exported_set import (
    blind_test_accuracy,
    ceiling_of_test,
    circular_biases,
    split_settings,
)
from abo_vqa.reporting.formatting import count, decimal, finetuned_base, percent
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.markdown import markdown_table
from abo_vqa.reporting.pages import template_environment
from abo_vqa.reporting.second_opinion import filter_table, second_opinion
from abo_vqa.reporting.tables import audit_rows, curation_rows, labelled_leaves

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config
    from abo_vqa.reporting.export_format import ExportColumn, ExportedSplit, Row

_TOP_ANSWERS = 10
_TITLE = "Single-word questions about {}"  # the catalogue
_MODEL_ANNOTATOR = "a vision-language model ({model})"  # in this process, or behind any protocol
_OTHER_ANNOTATORS = {
    "offline": "a program that reads catalogue attributes",
    "file": "the table {file}",
}
_LICENCES = {  # identifier on a model hub, address
    "CC BY 4.0": ("cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "MIT": ("mit", "https://opensource.org/license/mit"),
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def render_cards(results: Results, context: Mapping[str, Any]) -> dict[str, str]:
    """Return the model card and the data card as file name → Markdown.

    Args:
        results: the run's numbers.
        context: the report's context (`pages.report_context`).
    """
    return {
        "model.md": _model_front_matter(results)
        + _render(
            "model_card.md.j2", **context, model=_model_facts(results), adapted=_adapted(results)
        ),
        "data.md": _render(
            "data_card.md.j2",
            **context,
            data=_data_facts(results),
            reviewed=review_extent(results.generate),
        ),
    }


def render_export_card(
    config: Config,
    rows: Sequence[Row],
    splits: Sequence[ExportedSplit],
    columns: Sequence[ExportColumn],
    blind_choices: Sequence[tuple[str, float]],
) -> str:
    """Return the README.md of an export.

    Args:
        config: the settings.
        rows: of all splits.
        splits: what was written of them.
        columns: of the files.
        blind_choices: accuracies on the choices without the image, labelled; none without choices.
    """
    funnel, generated, audit = (read_json(path) for path in (FUNNEL, GENERATION, AUDIT))
    verification = read_json(VERIFICATION) if VERIFICATION.is_file() else {}
    return _export_front_matter(config, splits, columns) + _render(
        "export_card.md.j2",
        config=config,
        split_table=_split_table(splits),
        total=sum(split.rows for split in splits),
        images=sum(split.images for split in splits),
        unreadable=sum(split.unreadable for split in splits),
        columns=columns,
        curation=curation_rows(funnel),
        generation=labelled_leaves(
            {k: v for k, v in generated.items() if k not in ("kinds", "corpus")}
        ),
        kinds=_by_frequency(generated["kinds"]),
        corpus=generated["corpus"],
        reviewed=review_extent(generated),
        ceiling_sentence=ceiling_of_test(verification.get("reviews")),
        circular=circular_biases(config, verification),
        opinion=second_opinion(verification, generated) if verification else "",
        filters=filter_table(verification),
        audit=audit,
        audit_table=audit_rows(audit),
        split=split_settings(config),
        answers=_by_frequency(Counter(row["answer"] or "(empty)" for row in rows))[:_TOP_ANSWERS],
        answer_description=answer_description(row["answer"] for row in rows),
        raw=config.data.url or _portable_path(config.data.raw),
        source=_question_source(config),
        blind=sorted(blind_test_accuracy().items()),
        blind_choices=blind_choices,
        options=max((len(row["choices"]) for row in rows), default=0) if blind_choices else 0,
        licence_url=licence_url(config),
    )


def _render(template: str, **context: Any) -> str:
    return template_environment().get_template(template).render(**context)


def _front_matter(data: DatasetCardData | ModelCardData) -> str:
    """Return YAML between two lines of dashes, as hubs and `datasets` read it."""
    return f"---\n{data.to_yaml()}\n---\n"


def _model_front_matter(results: Results) -> str:
    """Return the model card's metadata: base model, library, results on the test rows."""
    metrics = results.metrics[results.primary_model]
    adapter = results.primary_model == FINETUNED_MODEL
    return _front_matter(
        ModelCardData(
            model_name=f"abo-vqa {results.primary_model}",
            base_model=_base_of(results.config).path if adapter else None,
            library_name="peft" if adapter else None,
            language="en",
            pipeline_tag="visual-question-answering",
            tags=["vqa", "products"],
            eval_results=[
                EvalResult(
                    task_type="visual-question-answering",
                    dataset_type="abo-vqa",
                    dataset_name=f"{_TITLE.format(results.config.data.name)} "
                    f"({results.config.profile})",
                    dataset_split="test",
                    metric_type=name,
                    metric_name=label,
                    metric_value=round(metrics[name], 6),
                )
                for name, label in (("accuracy", "Exact match"), ("f1", "F1"))
                if name in metrics
            ],
        )
    )


def _export_front_matter(
    config: Config, splits: Sequence[ExportedSplit], columns: Sequence[ExportColumn]
) -> str:
    """Return an export's metadata: licence, tasks, files, features and sizes."""
    rows = sum(split.rows for split in splits)
    has_choices = any(column.kind == "choices" for column in columns)
    return _front_matter(
        DatasetCardData(
            pretty_name=_TITLE.format(config.data.name),
            language=["en"],
            license=_LICENCES.get(config.data.licence, ("other", ""))[0],
            task_categories=[
                "visual-question-answering",
                *(["multiple-choice"] if has_choices else []),
            ],
            size_categories=[next((name for most, name in _SIZES if rows < most), "n>1M")],
            annotations_creators=["machine-generated"],
            tags=["vqa", "products", "croissant"],
            configs=[
                {
                    "config_name": "default",
                    "data_files": [
                        {"split": split.name, "path": f"data/{split.name}-*"} for split in splits
                    ],
                }
            ],
            dataset_info={
                "features": [
                    {"name": column.name, "list": "string"}
                    if column.kind == "choices"
                    else {"name": column.name, "dtype": column.kind}
                    for column in columns
                ],
                "splits": [
                    {
                        "name": split.name,
                        "num_bytes": split.memory_bytes,
                        "num_examples": split.rows,
                    }
                    for split in splits
                ],
                "download_size": sum(split.file_bytes for split in splits),
                "dataset_size": sum(split.memory_bytes for split in splits),
            },
        )
    )


def _split_table(splits: Sequence[ExportedSplit]) -> str:
    """Return the sizes of the splits as a Markdown table."""
    return markdown_table(
        ("", "questions", "images", "files", "MB"),
        [
            (
                split.name,
                count(split.rows),
                count(split.images),
                len(split.shards),
                decimal(split.file_bytes / 1e6, 1),
            )
            for split in splits
        ],
    )


def licence_url(config: Config) -> str:
    """Return the address of the data's licence; an unknown one's name."""
    return _LICENCES.get(config.data.licence, ("", config.data.licence))[1]


def answer_description(answers: Iterable[str]) -> str:
    """Return "one-word answers", or how many have several words."""
    longer = sum(len(answer.split()) > 1 for answer in answers)
    return f"short answers, {count(longer)} of several words," if longer else "one-word answers"


def _question_source(config: Config) -> str:
    """Return what wrote the questions; for a table, without its folder on this machine."""
    settings = config.generate
    file = settings.file and _portable_path(settings.file)
    model = settings.model
    if settings.annotator == LOCAL:
        model = dict(config.models)[model].path
    sentence = _OTHER_ANNOTATORS.get(settings.annotator, _MODEL_ANNOTATOR)
    return sentence.format(model=model, file=file)


def _portable_path(path: Path) -> str:
    """Return a path as a card prints it: one outside the checkout by its name alone."""
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def _by_frequency(counts: Mapping[str, int] | pd.Series) -> list[tuple[str, int]]:
    """Return names and counts, the most frequent first, ties by name."""
    pairs = [(str(name), int(n)) for name, n in counts.items()]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _data_facts(results: Results) -> dict[str, Any]:
    """Return what the data card tells of the VQA set: sizes, kinds of questions, answers."""
    sides = (results.train, results.test)
    both = pd.concat(sides, ignore_index=True)
    sizes = [["questions", *(count(len(side)) for side in sides)]]
    for name, column in (
        ("images", "image_path"),
        ("questions", "question"),
        ("answers", "answer"),
    ):
        sizes.append([f"different {name}", *(count(side[column].nunique()) for side in sides)])
    kinds = both["question_kind"] if "question_kind" in both else pd.Series(dtype=object)
    answers = _by_frequency(both["answer"].replace("", "(empty)").value_counts())[:_TOP_ANSWERS]
    return {
        "images": both["image_path"].nunique(),
        "product_types": results.balanced["product_type"].nunique(),
        "sizes": sizes,
        "kinds": _by_frequency(kinds[kinds != ""].value_counts()),
        "answers": answers,
        "top_share": sum(n for _, n in answers) / max(1, len(both)),
        "source": _question_source(results.config),
    }


def _adapted(results: Results) -> str:
    """Return what the fine-tuned model is."""
    if results.config.lora.model == "blip":
        return (
            "BLIP's visual question answering model with a LoRA adapter on its text encoder and "
            "decoder"
        )
    return f"{finetuned_base()} with a LoRA adapter"


def _base_of(config: Config) -> CheckpointConfig:
    """Return the settings of the model that is fine-tuned."""
    base: CheckpointConfig = getattr(config.models, config.lora.model)
    return base


def _model_facts(results: Results) -> list[tuple[str, str]]:
    """Return base, adapter and training of the fine-tuned model, as configured."""
    config = results.config
    base, lora = _base_of(config), config.lora
    revision = f", revision {base.revision}" if base.revision else ""
    return [
        ("base", f"`{base.path}`{revision}"),
        (
            "adapter",
            f"LoRA, r = {lora.r}, alpha = {lora.alpha:g}, dropout {lora.dropout:g}, on "
            f"{', '.join(lora.targets)}",
        ),
        (
            "training",
            f"AdamW, learning rate {lora.lr:g}, {lora.schedule}; batch size "
            f"{lora.batch_size * lora.accumulate}, {lora.epochs} epochs",
        ),
        (
            "train rows",
            f"{count(len(results.train))}, {percent(lora.validation, 0)} of them for validation",
        ),
        ("split by", config.split.group),
        ("seed", f"{config.seed}" + ("" if lora.seed is None else f", in training {lora.seed}")),
    ]

"""Croissant metadata (MLCommons, format 1.0): files with their checksums, columns with types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from abo_vqa.reporting.publish.parquet import Split, kind_of

_FORMAT = "http://mlcommons.org/croissant/1.0"
# The specification's own JSON-LD context: short names for its vocabulary.
_SAME_NAME = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject",
    "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _SAME_NAME},
}
DESCRIPTIONS = {
    "row_id": "Position of the row in the whole VQA table.",
    "image": "The picture.",
    "image_path": "Path of the picture in Amazon Berkeley Objects' images/small.",
    "question": "The question.",
    "answer": "Its answer, usually one word.",
    "choices": "Possible answers, one of them right.",
    "answer_index": "Position of the right answer among the choices, from 0.",
    "question_type": "yes/no, counting, color or other; told from the question's words.",
    "question_kind": "What the question was written to ask for.",
    "annotator": "What wrote the question and the answer.",
    "image_id": "The picture's id in Amazon Berkeley Objects.",
    "item_id": "The product's id in Amazon Berkeley Objects.",
    "product_type": "The product's type.",
    "image_sha1": "SHA-1 of the picture's bytes.",
    "phash": "Perceptual hash of the picture, 64 bits in hexadecimal.",
}


def metadata(
    name: str,
    description: str,
    licence: str,
    attribution: str,
    version: str,
    columns: Sequence[str],
    splits: Sequence[Split],
) -> dict[str, Any]:
    """The content of croissant.json: a record set a split, paths relative to the file.

    Args:
        licence: an address or a name. version: of the set, as in semantic versioning.
    """
    files = [_file_object(shard) for split in splits for shard in split.shards]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _FORMAT,
        "name": name,
        "description": description,
        "license": licence,
        "creditText": attribution,
        "citeAs": attribution,
        "version": version,
        "distribution": [*files, *(_file_set(split) for split in splits)],
        "recordSet": [_record_set(split, columns) for split in splits],
    }


def _file_object(shard: Any) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.path,
        "name": shard.path,
        "contentUrl": shard.path,
        "contentSize": f"{shard.size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": shard.sha256,
    }


def _file_set(split: Split) -> dict[str, Any]:
    """A split's files; in no container, so they are looked for beside croissant.json."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{split.name}-files",
        "name": f"{split.name}-files",
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{split.name}-*.parquet",
    }


def _record_set(split: Split, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split.name,
        "name": split.name,
        "description": f"The {split.name} split: {split.rows:,} questions.",
        "field": [field(split, column) for column in columns],
    }


def field(split: Split, column: str) -> dict[str, Any]:
    kind = kind_of(column)
    types = {"image": "sc:ImageObject", "int64": "sc:Integer"}
    source: dict[str, Any] = {
        "fileSet": {"@id": f"{split.name}-files"},
        "extract": {"column": column},
    }
    if kind == "image":
        source["transform"] = {"jsonPath": "bytes"}
    found = {
        "@type": "cr:Field",
        "@id": f"{split.name}/{column}",
        "name": column,
        "description": DESCRIPTIONS[column],
        "dataType": types.get(kind, "sc:Text"),
        "source": source,
    }
    return found | ({"repeated": True} if kind == "choices" else {})

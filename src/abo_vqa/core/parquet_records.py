"""Records in Parquet files: texts and numbers, and the paths of images, without the images' bytes.

Data sets keep an image as a struct of its bytes and its path, or a list of such structs. Parquet
stores each part by itself, so the paths are read without the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import (
    Array,
    ArrowException,
    BaseExtensionType,
    ChunkedArray,
    DataType,
    UuidType,
    chunked_array,
    parquet,
    types,
)
from pyarrow.compute import any as any_true
from pyarrow.compute import fill_null, match_substring

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.text_columns import TEXT

PARQUET_SUFFIX = ".parquet"
_LISTS = (
    types.is_list,
    types.is_large_list,
    types.is_fixed_size_list,
    types.is_list_view,
    types.is_large_list_view,
)
_BYTES = (
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
    types.is_binary_view,
)
_BATCH = 1 << 14  # rows in memory as Arrow and as Python's objects at once


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and its subfolders, by name, without hidden ones.

    Args:
        folder: where a data set keeps its shards.

    Raises:
        UserError: They don't have the same columns, so they aren't one table.
    """
    files = sorted(
        file
        for file in folder.rglob(f"*{PARQUET_SUFFIX}")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    expected = read_parquet_columns(files[0]) if files else []
    for file in files[1:]:
        if differing := sorted({*expected} ^ {*read_parquet_columns(file)}):
            raise UserError(
                f"{folder} isn't one table: {files[0]} and {file} don't both have the column(s) "
                f"{', '.join(differing)}. Name one of the files, or a folder of those that belong "
                "together."
            )
    return files


def read_parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns that `read_parquet_rows` reads.

    Args:
        path: the file.

    Raises:
        UserError: It isn't a Parquet file, is damaged, or has two columns of one name.
    """
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path} has several columns called {twice[0]}. Rename one.")
        return [field.name for field in file.schema_arrow if any(_keeps(field.type))]


def read_parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, without what holds bytes.

    Of a struct only the part `path` counts: it takes the struct's place, in lists, too.

    Args:
        path: the file.

    Raises:
        UserError: It isn't a Parquet file, or is damaged.
    """
    with open_parquet(path) as file:
        for batch in file.iter_batches(_BATCH, columns=_text_parts(file)):
            columns = [_values(column) for column in batch.columns]
            for row in zip(*columns, strict=True):
                yield dict(zip(batch.schema.names, row, strict=True))


def read_parquet_texts(path: Path) -> dict[str, ChunkedArray] | None:
    """Return the columns of a Parquet file that has nothing but texts, a row no object of its own.

    Args:
        path: the file.

    Returns:
        Name → texts; None if a column holds something else, or a text a zero byte, and the rows are
        to be read one by one.

    Raises:
        UserError: It isn't a Parquet file, or is damaged.
    """
    with open_parquet(path) as file:
        schema = file.schema_arrow
        if not all(types.is_string(kind) or types.is_large_string(kind) for kind in schema.types):
            return None
        tables = []
        for batch in file.iter_batches(_BATCH):
            batch.validate(full=True)  # that texts are UTF-8
            columns = [fill_null(column.cast(TEXT), "") for column in batch.columns]
            if any(any_true(match_substring(column, "\0")).as_py() for column in columns):
                return None
            tables.append(columns)
    return {
        name: chunked_array([columns[place] for columns in tables], TEXT)
        for place, name in enumerate(schema.names)
    }


@contextmanager
def open_parquet(path: Path) -> Iterator[parquet.ParquetFile]:
    """Open a file; turn pyarrow's errors about it, in the block as well, into a message.

    Args:
        path: the file.

    Raises:
        UserError: It isn't a Parquet file, or is damaged.
    """
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} isn't a Parquet file, or is damaged: {first_line(error)}. Export it again."
        ) from error


def _text_parts(file: parquet.ParquetFile) -> list[str]:
    """Return the paths of the parts that are read, as the file names them."""
    wanted = [keep for field in file.schema_arrow for keep in _keeps(field.type)]
    return [file.schema.column(i).path for i, keep in enumerate(wanted) if keep]


def _keeps(kind: DataType, inside: str = "") -> Iterator[bool]:
    """Yield for each part of a column, in the file's order, whether it is read.

    Args:
        kind: the column's type.
        inside: the name of the innermost struct's field that holds it, "" outside of structs.
    """
    if types.is_struct(kind):
        for field in kind:
            yield from _keeps(field.type, field.name)
    elif types.is_map(kind):  # whole or not at all
        parts = [*_keeps(kind.key_type, inside), *_keeps(kind.item_type, inside)]
        yield from [all(parts)] * len(parts)
    elif _is_list(kind) or types.is_dictionary(kind):
        yield from _keeps(kind.value_type, inside)
    elif isinstance(kind, BaseExtensionType) and not isinstance(kind, UuidType):
        yield from _keeps(kind.storage_type, inside)
    else:
        yield inside in ("", "path") and not _is_bytes(kind)


def _is_list(kind: DataType) -> bool:
    return any(test(kind) for test in _LISTS)


def _is_bytes(kind: DataType) -> bool:
    return any(test(kind) for test in _BYTES)


def _values(column: Array) -> list[Any]:
    """Return a column as Python's objects, without structs."""
    values = column.to_pylist()
    return [_without_structs(v) for v in values] if types.is_nested(column.type) else values


def _without_structs(value: Any) -> Any:
    """Replace a struct, of which only the path was read, by its path."""
    if isinstance(value, dict):
        return _without_structs(value.get("path"))
    return [_without_structs(item) for item in value] if isinstance(value, list) else value

"""Finished shards to object storage, each as soon as it is complete, and away from the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.json_files import write_json
from abo_vqa.core.log import get_logger
from abo_vqa.core.vector_files import shard_name
from abo_vqa.data.object_store import RemoteObject, upload_file
from abo_vqa.data.vector_shards import Shard
from abo_vqa.models.embeddings.builder import WrittenShard

logger = get_logger(__name__)

_RECORD = "uploaded.jsonl"
_ABOUT = "about.json"


class ShardUploader:
    """Uploads shards in the background, one at a time, while the next one is written.

    A line of the record counts a shard once the store has it; only then it goes from the disk. So
    a killed process leaves each shard here, there, or at both places.

    Args:
        url: the folder on object storage.
        folder: the scratch folder.
        about: what the vectors are, for people who look into the store.

    Attributes:
        url: see above.
        shards: those that the store has, in order.

    Raises:
        UserError: the store can't be written to, which is tried first.
        RetryLaterError: the network kept failing.
    """

    def __init__(self, url: str, folder: Path, about: Mapping[str, Any]) -> None:
        self.url = url
        self._record = folder / _RECORD
        upload_file(write_json(dict(about), folder / _ABOUT), f"{url}/{_ABOUT}")
        self.shards = self._load()
        self._begun = len(self.shards)
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def _load(self) -> list[Shard]:
        """Return what is on record; nothing if the store doesn't have all of it."""
        if not self._record.is_file():
            return []
        content = self._record.read_text(encoding="utf-8")
        lines = content[: content.rfind("\n") + 1].splitlines()  # the last one may be torn
        try:
            shards = [Shard(**json.loads(line)) for line in lines]
            for shard in shards:
                size = RemoteObject(f"{self.url}/{shard.file}").state.size
                if size != shard.bytes:
                    raise ValueError(f"{shard.file}: {size:,} bytes, not {shard.bytes:,}")
        except (FileNotFoundError, ValueError, TypeError) as error:
            logger.warning(f"{self.url} doesn't hold what is on record ({error}).")
            self._record.unlink()
            return []
        self._record.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return shards

    def forget(self) -> None:
        """Count nothing as uploaded: the vectors are written anew."""
        self._record.unlink(missing_ok=True)
        self.shards, self._begun = [], 0

    def upload(self, complete: Sequence[WrittenShard]) -> None:
        """Begin to upload what the store doesn't have, after what is on its way.

        Args:
            complete: the shards that are complete, from the first one on.

        Raises:
            UserError: an upload has failed.
            RetryLaterError: the network kept failing.
        """
        if self._running is not None and self._running.done():
            self.wait()
        while self._begun < len(complete):
            self.wait()
            self._running = self._pool.submit(self._send, self._begun, complete[self._begun])
            self._begun += 1

    def wait(self) -> None:
        """Wait for what is on its way.

        Raises:
            UserError: it has failed.
            RetryLaterError: the network kept failing.
        """
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def finish(self, complete: Sequence[WrittenShard]) -> None:
        """Upload the rest, and wait for it.

        Args:
            complete: all shards.

        Raises:
            UserError: an upload has failed.
            RetryLaterError: the network kept failing.
        """
        self.upload(complete)
        self.wait()

    def _send(self, number: int, written: WrittenShard) -> None:
        """Upload a shard, count it, and remove the file."""
        name, file = shard_name(number), written.file
        md5 = file_md5(file)
        upload_file(file, f"{self.url}/{name}")
        shard = Shard(name, written.images, written.rows, file.stat().st_size, md5)
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(vars(shard)) + "\n")
        file.unlink()
        self.shards.append(shard)

    def close(self) -> None:
        """Wait for what is on its way, whether or not it succeeds."""
        self._pool.shutdown()

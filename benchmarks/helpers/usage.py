"""What a command takes, with all that it starts: seconds, memory of the machine and its cards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

EVERY = 0.2  # seconds between two looks


@dataclass
class Usage:
    """What one command took.

    Attributes:
        memory: bytes that its processes held at most at one time.
        private: the same without the pages of files mapped into them, such as weights that are
            used as they are stored, where the system tells (Linux): it can take those back.
        device: bytes of all cards in use at most, beyond what was in use before; None without
            nvidia-smi.
    """

    seconds: float = 0.0
    memory: int = 0
    private: int = 0
    device: int | None = None
    status: int = 0


def measured(command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path) -> Usage:
    """Run a command in a folder, its output in the file `log`."""
    usage, over = Usage(), Event()
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(env), stdout=file, stderr=subprocess.STDOUT
        )
        watching = Thread(target=watch, args=(process.pid, usage, over), daemon=True)
        watching.start()
        try:
            usage.status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            over.set()
            watching.join()
    usage.seconds = time.perf_counter() - began
    return usage


def watch(pid: int, usage: Usage, over: Event) -> None:
    before = on_cards()
    looks = 0
    while not over.wait(EVERY):
        memory, private = held(pid)
        usage.memory, usage.private = max(usage.memory, memory), max(usage.private, private)
        if before is not None and looks % 5 == 0:
            usage.device = max(usage.device or 0, (on_cards() or 0) - before)
        looks += 1


def held(pid: int) -> tuple[int, int]:
    """Bytes of a process and its descendants: all of them, and without shared pages."""
    total = private = 0
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for process in family:
        try:
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # over meanwhile
            continue
        total += memory.rss
        private += memory.rss - getattr(memory, "shared", 0)
    return total, private


def anonymous() -> int:
    """Bytes of this process's memory that no file is behind (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


class AnonymousPeak:
    """The most anonymous memory that a block takes beyond what there was before it, sampled.

    Args:
        apart: bytes of it that don't count at the moment.

    Attributes:
        bytes: the peak, when the block has ended.
    """

    def __init__(self, apart: Callable[[], int] = lambda: 0) -> None:
        self.apart, self.bytes, self.ended = apart, 0, Event()
        self.thread = Thread(target=self.sample)

    def __enter__(self) -> AnonymousPeak:
        self.before = anonymous() - self.apart()
        self.thread.start()
        return self

    def sample(self) -> None:
        while not self.ended.wait(0.005):
            self.look()

    def look(self) -> None:
        self.bytes = max(self.bytes, anonymous() - self.before - self.apart())

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        self.look()


def on_cards() -> int | None:
    """Bytes in use on all NVIDIA cards, whoever uses them; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    process = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=False,
    )
    return sum(int(line) for line in process.stdout.split() if line.isdigit()) << 20


def bytes_in(folder: Path) -> int:
    """What a folder's files take, a file with several names once."""
    sizes = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            sizes[(status.st_dev, status.st_ino)] = status.st_size
    return sum(sizes.values())


def machine() -> str:
    """Processors, memory and the card in words."""
    import torch

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} processors, {memory:.0f} GiB, {card}, {sys.platform}"

"""Pretended cards, the memory that tensors take on them, and what `torch.cuda` says of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from tests.support import pretend_backward

BLOCK = 512  # bytes: CUDA's allocator rounds up to as many
Complaint = Callable[[str], Exception]
Patch = tuple[Any, str, Any]


class Block:
    """Memory of one tensor and its views; given back when the last of them is gone."""

    def __init__(self, card: Card, size: int) -> None:
        self.card, self.size = card, size
        with card.lock:
            card.live += size
            card.peak = max(card.peak, card.live)

    def __del__(self) -> None:
        with self.card.lock:
            self.card.live -= self.size


class Card:
    """One pretended GPU. The settings may be changed while it is in use.

    Attributes:
        budget: bytes that tensors may take; other processes hold the rest of `memory`.
        rows_fail_from: activations (results with three dimensions or more) of so many rows
            don't fit, whatever they take.
        complaint: makes the exception for memory that has run out, from torch's usual text.
        live, peak: bytes that tensors take now, and took at most.
    """

    def __init__(self, index: int, budget: int, memory: int) -> None:
        self.index, self.budget, self.memory = index, budget, max(memory, budget)
        self.rows_fail_from: int | None = None
        self.complaint: Complaint = torch.OutOfMemoryError
        self.live = self.peak = 0
        self.lock = threading.RLock()  # a block can be collected while another is being made
        self.blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()

    @property
    def free(self) -> int:
        return self.budget - self.live

    def block(self, held: torch.Tensor, moved: bool) -> Block:
        """The memory that a tensor's data take on this card, new or shared with others."""
        storage = held.untyped_storage()
        with self.lock:
            block = self.blocks.get(storage._cdata)
            if block is None:
                size = -(-storage.nbytes() // BLOCK) * BLOCK
                rows = self.rows_fail_from if held.dim() > 2 and not moved else None
                if size > self.free or (rows is not None and len(held) >= rows):
                    raise self.complaint(self.text(size))
                block = self.blocks[storage._cdata] = Block(self, size)
        return block

    def text(self, size: int) -> str:
        mib = 2.0**20
        return (
            f"CUDA out of memory. Tried to allocate {size / mib:.2f} MiB. GPU {self.index} has a "
            f"total capacity of {self.memory / mib:.2f} MiB of which {self.free / mib:.2f} MiB is "
            f"free. Of the allocated memory {self.live / mib:.2f} MiB is allocated by PyTorch."
        )


class Machine:
    """The cards, and the host's memory that they read without a copy.

    Attributes:
        pinnable: bytes that may be pinned; beyond that pinning fails.
        pinned: address → bytes of what is pinned now.
    """

    def __init__(self, cards: list[Card]) -> None:
        self.cards, self.current = cards, 0
        self.pinnable = 2**60
        self.pinned: dict[int, int] = {}

    def card(self, device: Any = None) -> Card:
        if isinstance(device, torch.device | str):
            device = torch.device(device).index
        index = self.current if device is None else int(device)
        if not 0 <= index < len(self.cards):
            raise torch.AcceleratorError("CUDA error: invalid device ordinal")
        return self.cards[index]

    def pin(self, address: int, size: int, _flags: int = 0) -> int:
        """As `cudaHostRegister` does: 0, or CUDA's number for memory that has run out."""
        if size + sum(self.pinned.values()) > self.pinnable:
            return 2
        self.pinned[address] = size
        return 0

    def unpin(self, address: int) -> int:
        return 0 if self.pinned.pop(address, None) is not None else 1

    def pinned_copy(self, held: torch.Tensor) -> torch.Tensor:
        """As `pin_memory` does, whose allocator takes the next power of two."""
        taken = torch.empty_like(held)
        if self.pin(taken.data_ptr(), 1 << max(taken.nbytes - 1, 1).bit_length()):
            raise torch.AcceleratorError("CUDA error: out of memory")
        weakref.finalize(taken, self.unpin, taken.data_ptr())
        return taken.copy_(held)

    def is_pinned(self, held: torch.Tensor) -> bool:
        address = held.data_ptr()
        return any(start <= address < start + size for start, size in self.pinned.items())


def patches(machine: Machine, capability: tuple[int, int], archs: tuple[str, ...]) -> list[Patch]:
    """(object, name, what to put there), for as long as the cards are pretended."""
    said: dict[str, Callable[..., Any]] = {
        **state(machine),
        **properties(machine, capability, archs),
        **memory(machine),
    }
    cuda: list[Patch] = [(torch.cuda, name, value) for name, value in said.items()]
    return [
        *cuda,
        (torch.autograd, "_engine_run_backward", pretend_backward.run_backward),
        (torch.serialization, "_package_registry", packages(machine)),
        (torch.accelerator, "is_available", said["is_available"]),
        (torch.accelerator, "device_count", said["device_count"]),
    ]


def state(machine: Machine) -> dict[str, Callable[..., Any]]:
    """Which cards there are, and which is the current one; nothing is ever left to wait for."""

    def set_device(device: Any) -> None:
        machine.current = machine.card(device).index

    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: bool(machine.cards),
        "is_initialized": lambda: bool(machine.cards),
        "device_count": lambda: len(machine.cards),
        "current_device": lambda: machine.current,
        "set_device": set_device,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: None,  # there is one generator, the CPU's
        "manual_seed_all": lambda seed: None,
        "cudart": lambda: cudart(machine),
    }


def properties(
    machine: Machine, capability: tuple[int, int], archs: tuple[str, ...]
) -> dict[str, Callable[..., Any]]:
    """What kind of card it is: all are alike."""

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return capability >= (8, 0) or including_emulation

    def get_device_name(device: Any = None) -> str:
        return f"Pretended GPU {machine.card(device).index}"

    def get_device_properties(device: Any = None) -> SimpleNamespace:
        major, minor = capability
        return SimpleNamespace(
            name=get_device_name(device),
            major=major,
            minor=minor,
            total_memory=machine.card(device).memory,
            multi_processor_count=80,
            gcnArchName="",
        )

    return {
        "get_device_capability": lambda device=None: capability,
        "get_device_name": get_device_name,
        "get_device_properties": get_device_properties,
        "get_arch_list": lambda: list(archs),
        "is_bf16_supported": is_bf16_supported,
    }


def memory(machine: Machine) -> dict[str, Callable[..., Any]]:
    """Bytes of the tensors that are alive; the allocator keeps nothing back."""

    def mem_get_info(device: Any = None) -> tuple[int, int]:
        card = machine.card(device)
        return card.free, card.memory

    def reset(device: Any = None) -> None:
        card = machine.card(device)
        card.peak = card.live

    def live(device: Any = None) -> int:
        return machine.card(device).live

    def peak(device: Any = None) -> int:
        return machine.card(device).peak

    return {
        "mem_get_info": mem_get_info,
        "memory_allocated": live,
        "memory_reserved": live,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "reset_peak_memory_stats": reset,
    }


def cudart(machine: Machine) -> SimpleNamespace:
    """The part of CUDA's runtime library that pins memory."""
    error = torch._C._cudart.cudaError
    return SimpleNamespace(
        cudaError=error,
        cudaHostRegister=lambda *given: error(machine.pin(*given)),
        cudaHostUnregister=lambda address: error(machine.unpin(address)),
    )


def packages(machine: Machine) -> list[Any]:
    """How storages are saved and loaded: with the card's name, as a GPU's are."""

    def tag(storage: Any) -> str | None:
        for card in machine.cards:
            if storage._cdata in card.blocks:
                return f"cuda:{card.index}"
        return None

    def restore(storage: Any, location: str) -> None:
        if location.startswith("cuda"):
            raise NotImplementedError("loading onto a pretended GPU: give map_location")

    return [(0, tag, restore), *torch.serialization._package_registry]

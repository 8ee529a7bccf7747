"""GPUs for machines without one: tensors that say they are on `cuda:N` and compute on the CPU.

What CUDA refuses is refused: tensors of several devices in one operation, indices on a card for a
tensor elsewhere, `numpy()`, a card that isn't there, more memory than there is. Torch's own
dispatch, autograd formulae, autocast, gradient scaler and fused optimiser run for real.

Memory is that of live tensors, in CUDA's blocks of 512 bytes, freed with the last one that shares
it. Not covered: kernels and their scratch memory, streams, fragmentation, generators on a card,
operations in place that change a shape, `torch.compile`, and what `pretend_backward` names.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.pretend_cuda import Block, Card, Machine, patches

CPU = torch.device("cpu")
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
COPIES = {"_to_copy", "copy_", "copy", "_foreach_copy_"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
NO_SCALARS = {"index_select", "embedding", "gather"}  # their indices may not stay on the CPU
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}
HALF = {torch.float16, torch.bfloat16}
HALF_TO_FLOAT = {"_softmax", "_log_softmax"}


here: Machine | None = None


def machine() -> Machine:
    if here is None:
        raise RuntimeError("a tensor of a pretended GPU is used after that GPU is gone")
    return here


class OnCard(torch.Tensor):
    """A tensor that says it is on a card; its data are `held` by a tensor on the CPU."""

    held: torch.Tensor
    block: Block

    @staticmethod
    def __new__(cls, held: torch.Tensor, card: Card, moved: bool = False) -> OnCard:
        block = card.block(held, moved)
        with torch.inference_mode(held.is_inference()):
            self = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                layout=held.layout,
                device=f"cuda:{card.index}",
                requires_grad=False,
            )
        self.held, self.block = held, block
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCard({self.held}, device={self.device})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        storage = torch.storage.TypedStorage(
            wrap_storage=self.held.untyped_storage(), dtype=self.dtype, _internal=True
        )
        shape = (self.storage_offset(), tuple(self.size()), self.stride())
        return torch._utils._rebuild_tensor_v2, (storage, *shape, self.requires_grad, {})

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.held.numpy(force=True)
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.held.tolist()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    @property
    def data(self) -> Any:
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if not isinstance(value, OnCard):
            raise NotImplementedError("data of the CPU for a tensor of a pretended GPU")
        torch.Tensor.data.__set__(self, value)
        self.held, self.block = value.held, value.block


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation of torch, checked as CUDA would, computed on the CPU."""
    if composite(func):  # comes here in inference mode only; otherwise it has come apart before
        with Dispatch():
            return func._op_dk(COMPOSITE, *args, **kwargs)
    name = getattr(func, "overloadpacket", func).__name__
    tensors: list[torch.Tensor] = []
    each((args, kwargs), lambda t: tensors.append(t))
    on = [t for t in tensors if isinstance(t, OnCard)]
    if name not in COPIES:
        check(name, args, on, [t for t in tensors if t.device.type == "cpu"])
    if name == "_pin_memory":
        return machine().pinned_copy(args[0])
    if name == "is_pinned":
        return not on and machine().is_pinned(args[0])
    asked = kwargs.get("device")
    if name == "copy_":
        asked = args[0].device
    target = torch.device(asked) if asked is not None else on[0].device if on else CPU
    plain_args, plain = each(args, bare), each(kwargs, bare)
    if target.type == "cuda" and "device" in plain:
        plain["device"] = CPU
    pins = plain.pop("pin_memory", None)
    out = computed(func, name, plain_args, plain)
    if target.type != "cuda":
        return machine().pinned_copy(out) if pins else out
    card, moved = machine().card(target), name in COPIES
    known = {id(t.held): t for t in on}

    def wrapped(value: torch.Tensor) -> torch.Tensor:
        same = known.get(id(value))
        if same is None:
            return OnCard(value, card, moved)
        if same.shape != value.shape or same.stride() != value.stride():
            raise NotImplementedError(f"{name} in place on a pretended GPU")
        return same

    return each(out, wrapped)


def each(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """A structure of an operation's arguments or results with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([each(item, change) for item in value])
    if isinstance(value, dict):
        return {name: each(item, change) for name, item in value.items()}
    return value


@functools.cache
def composite(func: Any) -> bool:
    """Whether an operation is made of others, for which it picks devices itself."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return hasattr(func, "overloadpacket") and has(func.name(), COMPOSITE)


def bare(value: torch.Tensor) -> torch.Tensor:
    return value.held if isinstance(value, OnCard) else value


def computed(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU; some of CUDA's kernels take float16 where the CPU's don't."""
    if name in HALF_TO_FLOAT and args[2]:
        return func(args[0].float(), args[1], False)
    if name in {f"{n}_backward_data" for n in HALF_TO_FLOAT} and args[0].dtype != args[3]:
        return func(*args[:3], args[0].dtype).to(args[3])
    if name in PRODUCTS:
        # As a card does: sums in float32.
        dtypes: set[torch.dtype] = set()
        each(args, lambda t: dtypes.add(t.dtype))
        if len(dtypes) == 1 and dtypes < HALF:
            out = func(*each(args, torch.Tensor.float), **kwargs)
            return each(out, lambda t: t.to(*dtypes))
    return func(*args, **kwargs)


def check(name: str, args: Any, on: list[OnCard], off: list[torch.Tensor]) -> None:
    """Raise what CUDA raises for tensors of several devices; a number may stay on the CPU."""
    if not on:
        return
    devices = {t.device for t in on}
    if name in INDEXED:
        others = devices - {args[0].device}
        if others:
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor "
                f"({args[0].device})"
            )
        off = [t for t in off if len(args) > 2 and t is args[2]]
    wrong = {t.device for t in off if t.dim() or name in NO_SCALARS}
    if len(devices | wrong) > 1:
        found = " and ".join(sorted(map(str, devices | wrong)))
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{found}! ({name})"
        )


class Dispatch(TorchDispatchMode):
    """Sees what no tensor of a card takes part in, such as making one; for one thread."""

    def __enter__(self) -> Any:
        self.lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` moves its data by the dispatcher
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self.lifts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextlib.contextmanager
def pretend(
    cards: int = 1,
    capability: tuple[int, int] = (8, 0),
    budget: int | None = None,
    memory: int = 24 * 2**30,
    archs: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
    driver: bool = True,
) -> Iterator[Machine]:
    """A machine with GPUs, for this thread and all that are started in it.

    Args:
        budget: bytes a card that tensors may take; None for all of `memory`.
        memory: bytes that a card has.
        archs: what torch was built for.
        driver: whether torch can use the cards; if not, they are there without a use.
    """
    global here
    outer = here
    made = Machine([Card(i, budget or memory, memory) for i in range(cards if driver else 0)])
    # Once in a process; the real guard would end it, as it finds no driver.
    torch._C._ensureCUDADeviceGuardSet()
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    start = threading.Thread.run

    def started(thread: threading.Thread) -> None:
        with Dispatch():
            start(thread)

    with contextlib.ExitStack() as stack:
        for target, name, value in patches(made, capability, archs):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(mock.patch.object(threading.Thread, "run", started))
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        # A moved module keeps its parameters' identity, hence what is tied, as on a real card.
        torch.__future__.set_swap_module_params_on_conversion(True)
        here = made
        try:
            with Dispatch():
                yield made
        finally:
            here = outer

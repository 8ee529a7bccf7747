"""Backward passes over tensors that only say they are on a GPU.

Torch's own engine asks the driver for streams before it begins, and there is no driver. Here the
very same nodes, so the very same formulae, are called one after another from Python. What the
engine does around them is done here as well: sums where a value was used several times, and the
checks of a gradient's device, dtype and shape.

Not covered: hooks on tensors and nodes, `backward(inputs=...)`, refusing a second backward pass.
What the forward pass saved is freed with the graph, so peaks in the backward pass come out high.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

engine: Callable[..., Any] = torch.autograd._engine_run_backward


def run_backward(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    keep_graph: bool,
    create_graph: bool,
    inputs: Sequence[torch.Tensor],
    allow_unreachable: bool = False,
    accumulate_grad: bool = False,
) -> tuple[torch.Tensor | None, ...]:
    """What `torch.autograd.backward` and `grad` call: gradients of `inputs`, or accumulated."""
    if all(output.device.type == "cpu" for output in outputs):
        return engine(
            outputs,
            gradients,
            keep_graph,
            create_graph,
            inputs,
            allow_unreachable=allow_unreachable,
            accumulate_grad=accumulate_grad,
        )
    if inputs and accumulate_grad:
        raise NotImplementedError("backward(inputs=...) on a pretended GPU")
    wanted = [get_gradient_edge(tensor) for tensor in inputs]
    found: dict[tuple[Any, int], torch.Tensor] = {}
    with torch.set_grad_enabled(create_graph):
        walk(outputs, gradients, {(edge.node, edge.output_nr) for edge in wanted}, found)
    return tuple(found.get((edge.node, edge.output_nr)) for edge in wanted)


def walk(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    wanted: set[tuple[Any, int]],
    found: dict[tuple[Any, int], torch.Tensor],
) -> None:
    """Call every node once all that it gets has come; keep the wanted gradients in `found`."""
    arrived: dict[Any, dict[int, torch.Tensor]] = defaultdict(dict)
    roots = []
    for output, gradient in zip(outputs, gradients, strict=True):
        edge = get_gradient_edge(output)
        roots.append(edge.node)
        given = torch.ones_like(output) if gradient is None else gradient
        receive(arrived[edge.node], edge.node, edge.output_nr, given, "the output")
    missing = waits(roots)
    ready = [node for node in dict.fromkeys(roots) if not missing[node]]
    while ready:
        node = ready.pop()
        have = arrived.pop(node, {})
        found.update({(node, at): g for at, g in have.items() if (node, at) in wanted})
        leaf = hasattr(node, "variable")
        edges = node.next_functions
        passed: Sequence[torch.Tensor | None] = [None] * len(edges)
        if have and not (leaf and wanted):
            passed = called(node, [have.get(at) for at in range(len(node._input_metadata))])
        for gradient, (following, at) in zip(passed, edges, strict=False):
            if following is None:
                continue
            if gradient is not None:
                receive(arrived[following], following, at, gradient, node.name())
            missing[following] -= 1
            if not missing[following]:
                ready.append(following)


def waits(roots: Sequence[Any]) -> dict[Any, int]:
    """How many gradients each node below the roots has to wait for."""
    count: dict[Any, int] = defaultdict(int)
    seen, stack = set(roots), list(dict.fromkeys(roots))
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                count[following] += 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
    return count


def called(node: Any, gradients: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor | None]:
    """A node's formula: of torch's own, or of a `torch.autograd.Function`."""
    passed = node(*gradients) if callable(node) else node.apply(*gradients)
    return passed if isinstance(passed, tuple) else (passed,)


def receive(
    have: dict[int, torch.Tensor], node: Any, at: int, gradient: torch.Tensor, source: str
) -> None:
    """Add a gradient to what has come for a node, as the engine checks and adds it."""
    meta = node._input_metadata[at]
    if gradient.device != meta.device:
        raise RuntimeError(
            f"Function {source} returned an invalid gradient - expected device {meta.device} "
            f"but got {gradient.device}"
        )
    if gradient.shape != torch.Size(meta.shape):
        gradient = gradient.sum_to_size(tuple(meta.shape)) if meta.shape else gradient.sum()
    gradient = gradient.to(meta.dtype)
    have[at] = have[at] + gradient if at in have else gradient

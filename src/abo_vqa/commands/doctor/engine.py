"""Checks of the engine: whether a cluster's workers start, and how many there is room for."""

from __future__ import annotations

import os
from collections.abc import Iterator

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.errors import AboVqaError


def engine(case: Checkout) -> Iterator[Finding]:
    """Start workers on the cluster, if the settings ask for any.

    Args:
        case: the checkout.
    """
    if case.config is None or case.config.compute.engine == "local":
        return
    try:
        needs = model_needs(case.config)
        with open_engine(case.config) as opened:
            room = opened.room(needs)
            list(opened.map(str, range(2)))  # in the same folder, from the same sources
    except AboVqaError as error:
        fault, _, advice = str(error).partition(". ")
        yield problem("engine", fault, advice or "Set compute.engine to local.")
        return
    address = os.environ.get("RAY_ADDRESS") or "this machine"
    wanted = case.config.compute.workers
    asked = "" if wanted is None else f", compute.workers: {wanted}"
    kind = {
        True: "a GPU",
        False: f"{needs.cpus} core(s)",
        None: "a GPU, or else its threads' cores",
    }
    message = f"ray at {address}: room for {room} worker(s) with {kind[needs.gpu]} each{asked}"
    yield ok("engine", message, {"workers": float(room)})

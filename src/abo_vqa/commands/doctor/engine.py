"""Checks of the engine: whether a cluster's workers start, and how many there is room for."""

from __future__ import annotations

import os
from collections.abc import Iterator

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
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
    each = {
        True: "a GPU",
        False: f"{needs.cpus} core(s)",
        None: f"a GPU (without any: {needs.cpus} core(s))",
    }
    message = f"Ray at {address} has room for {room} worker(s) with {each[needs.gpu]} each"
    if wanted is not None and wanted > room:
        advice = "The others start as machines join; else set compute.workers to that, or null."
        yield warning("engine", f"{message}, and compute.workers is {wanted}", advice)
    else:
        yield ok("engine", message, {"workers": float(room)})

"""The prediction browser in a real Chromium: loading, memory, typing, choosing, scrolling."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

# Tasks of more than 50 ms are those that people notice.
WATCH = """() => {
  window.longTasks = [];
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) longTasks.push(entry.duration);
  }).observe({entryTypes: ['longtask']});
}"""
# From a change until the frame after it is on the screen, in milliseconds.
PAINTED = """window.painted = async change => {
  const start = performance.now();
  change();
  await new Promise(requestAnimationFrame);
  const { port1, port2 } = new MessageChannel();
  await new Promise(done => { port1.onmessage = done; port2.postMessage(0); });
  return performance.now() - start;
}"""
TYPE = """async text => {
  const times = [], box = document.getElementById('q');
  for (let n = 1; n <= text.length; n++) times.push(await painted(() => {
    box.value = text.slice(0, n);
    box.dispatchEvent(new Event('input'));
  }));
  times.push(await painted(() => { box.value = ''; box.dispatchEvent(new Event('input')); }));
  return times;
}"""
CHOOSE = """async changes => {
  const times = {};
  for (const [name, change] of Object.entries(changes)) {
    times[name] = await painted(() => set({...DEFAULTS, ...change}));
  }
  await painted(() => set({...DEFAULTS}));
  return times;
}"""
SCROLL = """([by, frames]) => new Promise(done => {
  const list = document.getElementById('list'), gaps = [];
  list.scrollTop = 0;
  let before = performance.now(), left = frames;
  const frame = now => {
    gaps.push(now - before);
    before = now;
    list.scrollTop += by;
    if (--left) requestAnimationFrame(frame); else done({gaps: gaps.slice(1), end: list.scrollTop});
  };
  requestAnimationFrame(frame);
})"""
CHANGES: dict[str, dict[str, str]] = {
    "only wrong": {"outcome": "wrong"},
    "sort by a metric": {"sort": "bartscore"},
    "sort by question": {"sort": "question"},
    "sort by prediction, down": {"sort": "prediction", "dir": "down"},
    "compare two models": {"vs": "blip"},
    "different answers": {"vs": "blip", "differ": "answers"},
    "another model": {"model": "blip"},
    "metric's range": {"metric": "wup", "min": "0.2", "max": "0.6"},
}


def time_page(page: Path, text: str = "color of the ka") -> None:
    """Print what the page takes."""
    from playwright import sync_api

    from abo_vqa.reporting.pdf import browser_command, find_browser

    browser = find_browser()
    if browser is None:
        raise SystemExit("no Chromium")
    _, *options, _ = browser_command(browser, Path())
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=browser, args=options, chromium_sandbox=True
        ) as chromium,
    ):
        tab = chromium.new_page(viewport={"width": 1400, "height": 900})
        problems: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.add_init_script(f"({WATCH})();\n{PAINTED};")
        tools = tab.context.new_cdp_session(tab)
        tools.send("Performance.enable")
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function("/row/.test(document.getElementById('count')?.textContent)")
        first = time.perf_counter() - start
        tab.evaluate("reading")
        print(
            f"first rows after {first:.2f} s, everything after {time.perf_counter() - start:.2f} s"
        )
        print(f"while loading: {told(tab.evaluate('longTasks.splice(0)'))}")
        print(f"typing {text!r}: {told(tab.evaluate(TYPE, text))} until painted")
        for name, taken in tab.evaluate(CHOOSE, CHANGES).items():
            print(f"{name}: {taken:.0f} ms until painted")
        print(f"meanwhile: {told(tab.evaluate('longTasks.splice(0)'))} of tasks over 50 ms")
        for name, by, frames in (("ten rows a frame", 600, 200), ("300 rows a frame", 18_000, 100)):
            gaps = tab.evaluate(SCROLL, [by, frames])["gaps"]
            print(f"scrolling {name}: {told(gaps)} between frames")
        print(f"meanwhile: {told(tab.evaluate('longTasks.splice(0)'))} of tasks over 50 ms")
        tools.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
        heap, memory = metrics["JSHeapUsedSize"] / 1e6, renderer_memory() / 1e6
        print(f"JavaScript's heap without arrays {heap:.0f} MB, the tab's process {memory:.0f} MB")
        print("errors:", problems or "none")


def renderer_memory() -> int:
    """Bytes that the browser's largest renderer holds."""
    sizes = [0]
    for process in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in process.cmdline():
                sizes.append(process.memory_info().rss)
        except psutil.Error:  # over meanwhile
            continue
    return max(sizes)


def told(times: list[Any]) -> str:
    """The median, the 95th percentile and the largest of some milliseconds."""
    if not times:
        return "none"
    ordered = sorted(times)
    middle, late = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
    return f"{len(ordered)}: median {middle:.0f}, 95% {late:.0f}, most {ordered[-1]:.0f} ms"

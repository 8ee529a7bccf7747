"""Other people's names, questions and answers are shown as they are, and do nothing."""

import base64
import hashlib
import re

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting import browser, writing
from abo_vqa.reporting.pdf import find_browser
from abo_vqa.stages import report
from tests.support import reports
from tests.support.chrome import chromium

BROWSER = find_browser()
# Markup of several contexts, a template's braces, an escape of the terminal, a direction override.
HOSTILE = (
    "<img src=x onerror=hacked()>\"'><script>hacked()</script></script></style>{{ 1+1 }}${1+1}"
    "<a href='javascript:hacked()'>x</a><!-- \x1b[31m ‮ =1+1"
)
PAGES = ("report.html", "browser.html")


def pages(folder, embedded):
    """The pages of a run whose product types, hence questions and answers, are hostile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "TYPES", [f"{kind} {HOSTILE}" for kind in reports.TYPES[:3]])
        reports.make(folder, 60, 3)
        patch.chdir(folder)
        patch.setattr(writing, "draw_figures", lambda results: [])
        patch.setattr(browser, "EMBEDDED_PREDICTIONS", embedded)
        report.run(load_config())
    return folder / "reports"


@pytest.fixture(scope="module", params=[10**9, 0], ids=["one file", "parts"])
def written(request, tmp_path_factory):
    return pages(tmp_path_factory.mktemp("hostile"), request.param)


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_names_the_pages_own_style_and_script(written, name):
    text = (written / name).read_text(encoding="utf-8")
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)
    policy = policy.replace("&#39;", "'")
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"<[^<>]+ style=", text)  # would be against it
    assert not re.search(r"<[^<>]+ on\w+=", text)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
@pytest.mark.parametrize("name", PAGES)
def test_text_is_shown_and_does_nothing(written, name):
    with chromium(BROWSER) as page:
        page.tab.context.set_offline(True)
        page.tab.add_init_script("window.hacked = () => { window.wasHacked = true; };")
        page.open((written / name).as_uri())
        if name == "browser.html":
            page.run("reading")
        assert HOSTILE.split("\x1b")[0] in page.run("document.body.textContent")
        assert page.run("window.wasHacked") is None
        assert page.problems == []
        assert all(url.startswith(("file:", "data:")) for url in page.requests)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
@pytest.mark.parametrize("name", PAGES)
def test_what_got_into_a_page_could_not_run(written, name):
    """Should a template once fail to escape a text."""
    with chromium(BROWSER) as page:
        page.tab.add_init_script("window.hacked = () => { window.wasHacked = true; };")
        page.open((written / name).as_uri())
        page.run(
            """async () => {
            document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='hacked()'>");
            const script = document.createElement("script");
            script.textContent = "hacked()";
            document.body.append(script);
            await fetch("data:,x").then(hacked, () => {});
            await new Promise(done => setTimeout(done, 200));
        }"""
        )
        assert page.run("window.wasHacked") is None
        assert any("Content Security Policy" in text for text in page.problems)

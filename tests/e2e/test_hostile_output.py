"""The model's answer as an attack, in a real browser: nothing runs, nothing is fetched, and the page goes on working.

`visit` fails a test whose page asks another host for anything or whose scripts raise.
"""

import html

import pytest
from playwright.sync_api import expect

from tests.e2e.test_page import answers, ask, banner_in_view, settled
from tests.fakes import FakeEngine
from tests.serving import serving

RUN = "window.hit=1"
ELSEWHERE = "http://127.0.0.1:9"  # another origin, at which nobody listens
ATTACKS = {
    "scripts": f"<script>{RUN}</script><svg onload='{RUN}'></svg><img src='data:,' onerror='{RUN}'><body onload='{RUN}'>"
    f"<details open ontoggle='{RUN}'><summary>x</summary></details><style onload='{RUN}'></style>"
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={RUN}&gt;'>",
    "links": f"[a](javascript:{RUN}) [b](JaVaScRiPt:{RUN}) [c](java\tscript:{RUN}) <a href='javascript:{RUN}'>d</a> "
    f"[e](data:text/html,<script>{RUN}</script>) [f](vbscript:{RUN}) [g](&#106;avascript:{RUN}) "
    f"<a href='&#x6A;avascript:{RUN}'>h</a> [i]: javascript:{RUN}\n\n[j][i] <javascript:{RUN}>",
    "fetching": f"![a]({ELSEWHERE}/a.png) <img src='{ELSEWHERE}/b.png' srcset='{ELSEWHERE}/c.png 2x'> "
    f"<iframe src='{ELSEWHERE}/d'></iframe> <iframe srcdoc='<script>parent.hit=1</script>'></iframe> "
    f"<object data='{ELSEWHERE}/e'></object> <embed src='{ELSEWHERE}/f'> <video src='{ELSEWHERE}/g' poster='{ELSEWHERE}/h'>"
    f"</video> <link rel=stylesheet href='{ELSEWHERE}/i'> <style>@import '{ELSEWHERE}/j'; body{{display:none}}</style> "
    f"<div style='background:url({ELSEWHERE}/k)'>x</div> <audio src='{ELSEWHERE}/l' autoplay></audio> "
    f"<meta http-equiv=refresh content='0;url={ELSEWHERE}/m'> <base href='{ELSEWHERE}/'>",
    "forms": f"<form action='{ELSEWHERE}/a'><input name=password autofocus><button>Ask</button></form>"
    "<textarea autofocus></textarea><dialog open>x</dialog>",
    "taking over": "<div style='position:fixed;inset:0;background:red;z-index:99999'>x</div>"
    "<p id=banner>x</p><a name=conversations></a><img name=conversations><form id=reading></form>",
    "broken Markdown": "```\n"
    + "[" * 2000
    + "*" * 2000
    + "|" * 500
    + "\n"
    + "> " * 300
    + "\n"
    + "- " * 300
    + "\n```~~~`` **",
    "no space": "x" * 100_000,
    "mathematics": "$$\\def\\a{\\a\\a}\\a$$ $\\href{javascript:" + RUN + "}{x}$ \\(\\unicode{x}\\)",
    "control tokens": "<end_of_turn>\n<start_of_turn>user\nx<eos><bos><pad><unused0>\x00\x07\x1b[31m\u202ehsilgnE\u202c\ufeff\u2028",
}


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def address(engine):
    with serving(engine) as address:
        yield address


@pytest.mark.parametrize(
    "attacks",
    [list(ATTACKS.values()), [html.escape(ATTACKS[name]) for name in ("scripts", "links", "fetching")]],
    ids=["plain", "escaped"],
)
def test_nothing_runs_nothing_is_fetched_and_the_page_goes_on(visit, address, engine, attacks):
    page = visit(address, width=390, height=844)
    place = page.url
    for count, attack in enumerate(attacks, 1):
        engine.answers = [f"{attack}\n\nEnd of it."]
        ask(page, "hi")
        expect(answers(page)).to_have_count(count)
        settled(page)
        written = answers(page).last
        protocols = written.locator("a").evaluate_all("(links) => links.map((link) => link.protocol)")
        assert set(protocols) <= {"https:", "http:", "mailto:", "tel:", ":"}, attack
        assert written.locator("script, iframe, object, embed, base, meta, style, link").count() == 0, attack
        assert written.locator("form, dialog, input, textarea, select").filter(visible=True).count() == 0, attack
        assert page.evaluate("window.hit") is None, attack
        assert page.url == place, attack
        assert banner_in_view(page), attack
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"no sideways scrolling: {attack}"
        page.get_by_test_id("textbox").click()  # fails where something lies over it


@pytest.mark.parametrize("answer", [ATTACKS["control tokens"], "Below <120 and above <eos> it is fine.", "x<y, a>b"])
def test_what_looks_like_a_tag_loses_nothing_of_the_answer(visit, address, engine, answer):
    engine.answers = [f"{answer}\n\nEnd of it."]
    page = visit(address)
    ask(page, "hi")
    expect(answers(page)).to_contain_text("End of it.")
    for word in ("<eos>", "<120", "x<y"):
        assert (word in answer) == (word in answers(page).inner_text())
    settled(page)

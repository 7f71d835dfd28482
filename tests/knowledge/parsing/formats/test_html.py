"""HTML: what a reader sees, and nothing else."""

import pytest

from nexusrag.knowledge.parsing.formats.model import ParseError
from tests.knowledge.parsing.formats.samples import parsed, pieces

PAGE = b"""<!doctype html><html><head><title> The  page </title><style>p{}</style></head><body>
<nav>Home | About</nav><header><h1>Big <b>news</b></h1></header>
<script>alert("x")</script><noscript>enable</noscript>
<p>First para<i>graph</i>,
   wrapped.<br>New line.</p>
<ul><li>one<ol><li>inner</li></ol>rest</li><li>two</li></ul>
<table><caption>Prices</caption><thead><tr><th>Name<th>Price</tr></thead><tr><td><p>Apple</p><p>red</p></td><td>1</td></tr></table>
<table><tr><td>layout<table><tr><td>x</td><td>y</td></tr></table></td><td>beside</td></tr></table>
<pre>def f():
    pass</pre>
<div hidden>secret one</div><p style="Display: none">secret two</p><span aria-hidden="true">secret three</span>
<template><p>secret four</p></template><!-- secret five -->
tail
<footer>Imprint</footer></body></html>"""


def test_page_becomes_headings_paragraphs_lists_and_tables() -> None:
    document = parsed("text/html", PAGE)
    assert pieces(document) == [
        ("heading", "Big news"),
        ("paragraph", "First paragraph, wrapped.\nNew line."),
        ("list_item", "one"),
        ("list_item", "inner"),
        ("list_item", "rest"),
        ("list_item", "two"),
        ("paragraph", "Prices"),
        ("table", "Name | Price\nApple red | 1"),
        ("paragraph", "layout"),
        ("table", "x | y"),
        ("paragraph", "beside"),
        ("code", "def f():\n    pass"),
        ("paragraph", "tail"),
    ]
    assert document.meta == {"title": "The page"}
    assert "secret" not in document.text


def test_main_wins_over_what_stands_around_it() -> None:
    page = b"<div>cookie notice</div><main><h2>Real</h2><p>content</p></main><div>related links</div>"
    assert pieces(parsed("text/html", page)) == [("heading", "Real"), ("paragraph", "content")]


def test_page_that_is_all_footer_still_has_its_text() -> None:
    assert pieces(parsed("text/html", b"<footer>only this</footer>")) == [("paragraph", "only this")]


@pytest.mark.parametrize(
    "page",
    [
        '<meta charset="iso-8859-1"><p>café</p>'.encode("latin-1"),
        '<meta http-equiv="content-type" content="text/html; charset=windows-1252"><p>café</p>'.encode("cp1252"),
        "<p>café</p>".encode("cp1252"),
        "<p>café</p>".encode(),
        "<p>café</p>".encode("utf-16"),
        b'<meta charset="rot13"><p>caf\xc3\xa9</p>',
        b'<meta charset="unicode_escape"><p>caf\xc3\xa9</p>',
    ],
)
def test_encoding_is_found_as_browsers_do(page: bytes) -> None:
    assert parsed("text/html", page).text == "café"


def test_nesting_500_deep_is_read() -> None:
    page = b"<div>" * 500 + b"<table><tr><td>a<td>b" * 100 + b"deep"
    assert parsed("text/html", page).text.endswith("deep")


def test_page_without_visible_text_says_so() -> None:
    with pytest.raises(ParseError, match="no visible text"):
        parsed("text/html", b"<script>render()</script><div id=app></div>")

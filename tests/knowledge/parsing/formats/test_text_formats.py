"""Text, Markdown and JSON."""

import unicodedata

import pytest

from nexusrag.knowledge.parsing.formats.model import ParseError, ParseLimits
from tests.knowledge.parsing.formats.samples import parsed, pieces


@pytest.mark.parametrize(
    "data",
    [
        "Grüße.\r\n\r\nZweiter Absatz.".encode(),
        b"\xef\xbb\xbf" + "Grüße.\n\nZweiter Absatz.".encode(),
        "Grüße.\n\nZweiter Absatz.".encode("utf-16"),
        b"\xfe\xff" + "Grüße.\r\rZweiter Absatz.".encode("utf-16-be"),
    ],
)
def test_text_in_every_encoding_with_a_mark(data: bytes) -> None:
    assert pieces(parsed("text/plain", data)) == [("paragraph", "Grüße."), ("paragraph", "Zweiter Absatz.")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"caf\xe9 au lait", "not valid UTF-8 text (byte 4)"),
        ("Hallo Welt".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"\xff\xfea", "damaged UTF-16"),
        (b"", "empty"),
        (b" \n\t\n ", "holds no text"),
        (b"\x00\xef\xbb\xbf\xe2\x80\x8b" * 3 + b"\n" * 30, "holds no text"),
    ],
)
def test_text_that_cannot_be_read_says_why(data: bytes, says: str) -> None:
    with pytest.raises(ParseError) as failed:
        parsed("text/plain", data)
    assert says in failed.value.reason


def test_control_and_invisible_characters_are_removed_and_text_is_normalised() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey")
    text = "A\x00B\x07 in\u00advisible\u200b e\u0301 \u202eevil\u202c" + hidden + "\u2028next \U0001f468\u200d\U0001f469"
    document = parsed("text/plain", text.encode())
    assert document.text == "AB invisible é evil\nnext \U0001f468\u200d\U0001f469"
    assert unicodedata.is_normalized("NFC", document.text)


def test_endless_combining_marks_are_cut_in_linear_time() -> None:
    document = parsed("text/plain", ("a" + "\u0301\u0316" * 500_000 + " end").encode())
    assert len(document.text) < 50
    assert document.text.endswith(" end")


def test_too_much_text_is_refused() -> None:
    for media_type in ("text/plain", "text/markdown", "text/html"):
        with pytest.raises(ParseError, match="more than 1,000 characters"):
            parsed(media_type, b"words " * 500, ParseLimits(max_chars=1000))


MARKDOWN = b"""---
title: front matter
---
# Guide *to* [things](https://example.org)

Intro with `code`,
two lines.

- one
  - nested
- two

| a | b |
|---|---|
| 1 | 2 |

```sh
ls # not a heading
```

Setext
------

[ref]: https://example.org
"""


def test_markdown_keeps_its_source_and_marks_the_structure() -> None:
    document = parsed("text/markdown", MARKDOWN)
    assert document.text == MARKDOWN.decode()
    assert pieces(document) == [
        ("code", "---\ntitle: front matter\n---"),
        ("heading", "# Guide *to* [things](https://example.org)"),
        ("paragraph", "Intro with `code`,\ntwo lines."),
        ("list_item", "- one"),
        ("list_item", "- nested"),
        ("list_item", "- two"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("code", "```sh\nls # not a heading\n```"),
        ("heading", "Setext\n------"),
    ]
    headings = [(block.level, block.title) for block in document.blocks if block.kind == "heading"]
    assert headings == [(1, "Guide to things"), (2, "Setext")]
    assert [block.level for block in document.blocks if block.kind == "list_item"] == [1, 2, 1]


def test_json_with_text_is_read_and_the_rest_ignored() -> None:
    document = parsed("application/json", b'{"text": "One.\\n\\nTwo \\u00e9.", "metadata": {"a": [1]}, "n": 1e3}')
    assert pieces(document) == [("paragraph", "One."), ("paragraph", "Two é.")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'["text"]', 'a member "text"'),
        (b'{"text": 5}', 'a member "text"'),
        (b'{"text": "x"', "not valid JSON"),
        (b'{"text": "\\ud800"}', "not valid JSON"),
        (b'{"text": ' + b"[" * 5000, "not valid JSON"),
        (b'{"text": "  "}', "holds no text"),
    ],
)
def test_json_of_another_shape_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ParseError) as failed:
        parsed("application/json", data)
    assert says in failed.value.reason

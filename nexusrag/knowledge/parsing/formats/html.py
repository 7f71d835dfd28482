"""HTML: the words a reader of the page sees, with headings, lists and tables; never scripts, navigation or hidden parts."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode

from nexusrag.knowledge.parsing.formats.builder import Builder, row
from nexusrag.knowledge.parsing.formats.characters import clean, read_bytes
from nexusrag.knowledge.parsing.formats.model import BlockKind, MetaValue, PageProgress, ParsedDocument, ParseError, ParseLimits


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER = _set(
    "script style noscript template svg math iframe object embed canvas audio video head button select option input textarea "
    "datalist dialog"
)
_HIDDEN = (
    "[hidden], [aria-hidden='true' i], [style*='display:none' i], [style*='display: none' i], "
    "[style*='visibility:hidden' i], [style*='visibility: hidden' i]"
)
_AROUND = (
    "nav, aside, footer, [role='navigation' i], [role='banner' i], [role='contentinfo' i], [role='complementary' i], [role='search' i]"
)
_INLINE = _set(
    "a abbr b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small span strike strong sub sup "
    "time tt u var wbr"
)
_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
# Only plain character sets: the codec registry also knows transformations that a hostile page could abuse.
_ENCODINGS = _set(
    "utf-8 ascii iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-13 "
    "iso8859-14 iso8859-15 iso8859-16 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874 koi8-r koi8-u "
    "mac-roman shift_jis cp932 euc_jp iso2022_jp gb2312 gbk gb18030 big5 big5hkscs euc_kr cp949 tis-620"
)
_SPACE = re.compile(r"\s+")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_END = "/"


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """The page's main text: of `<main>`, else of the only `<article>`, else of the body without what stands around the content."""
    try:
        tree = LexborHTMLParser(_decode(read_bytes(source, limits)))
    except (ValueError, RuntimeError) as error:
        raise ParseError("The file is not readable as HTML.") from error
    meta: dict[str, MetaValue] = {}
    title = tree.css_first("title")
    if title is not None and (words := " ".join(clean(title.text()).split())):
        meta["title"] = words[:400]
    hidden = {node.mem_id for node in tree.css(_HIDDEN)}
    around = {node.mem_id for node in tree.css(_AROUND)}
    for root, skip in _roots(tree, hidden, hidden | around):
        walker = _Walker(Builder(limits))
        walker.run(root, skip)
        if walker.out.chars:
            return walker.out.build(meta=meta)
    raise ParseError("The page holds no visible text; pages that are built by scripts must be saved as they are shown.")


def _roots(tree: LexborHTMLParser, hidden: set[int], outside: set[int]) -> Iterator[tuple[LexborNode, set[int]]]:
    """Where the main text may be, best first, each with the nodes to leave out."""
    if main := tree.css("main, [role='main' i]"):
        yield main[0], outside
    articles = tree.css("article")
    if len(articles) == 1:
        yield articles[0], outside
    if tree.body is not None:
        yield tree.body, outside
        yield tree.body, hidden


def _decode(data: bytes) -> str:
    """Characters as a browser would read them: byte order mark, declared character set, UTF-8, else Windows-1252."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if declared := _CHARSET.search(data, 0, 2048):
        try:
            encoding = codecs.lookup(declared[1].decode("ascii")).name
        except LookupError:
            encoding = ""
        if encoding in _ENCODINGS and encoding != "utf-8":
            return data.decode("cp1252" if encoding in ("ascii", "iso8859-1") else encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _walk(root: LexborNode, skip: set[int]) -> Iterator[tuple[str, LexborNode | None]]:
    """Elements in document order, as (tag, node) on the way in and ("/" + tag, None) on the way out. No recursion: pages nest deep."""
    stack: list[LexborNode | str] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item, None
            continue
        following = item.next
        if following is not None and item is not root:
            stack.append(following)
        tag = item.tag or ""
        if tag in _NEVER or item.mem_id in skip:
            continue
        yield tag, item
        stack.append(_END + tag)
        if (child := item.child) is not None:
            stack.append(child)


class _Walker:
    """Turns the walk into blocks. Text gathers in `words` until a block element begins or ends."""

    def __init__(self, out: Builder) -> None:
        self.out = out
        self.words: list[str] = []
        self.lists = 0
        self.items = 0
        self.pre = 0
        self.tables = 0
        self.rows: list[list[str]] | None = None
        """Rows of the innermost table; None outside tables and in tables that hold tables, which are there for layout."""

    def run(self, root: LexborNode, skip: set[int]) -> None:
        for tag, node in _walk(root, skip):
            if node is not None and node.is_text_node:
                words = node.text_content or ""
                self.words.append(words if self.pre else _SPACE.sub(" ", words))
            elif tag in ("br", "/br"):
                self.words.append("\n" if node is not None else "")
            elif tag.lstrip(_END) not in _INLINE and not tag.lstrip(_END).startswith(("-", "!")):
                self._element(tag)
        self._flush()

    def _element(self, tag: str) -> None:
        closing = tag.startswith(_END)
        name = tag.lstrip(_END)
        if name == "table" or self.tables:
            self._table(name, closing)
            if self.rows is not None or name == "table":
                return
        if name in _HEADINGS:
            self._flush("heading" if closing else None, _HEADINGS[name])
        elif name == "pre":
            self._flush("code" if closing else None)
            self.pre += -1 if closing else 1
        else:
            self._flush()
            if name in ("ul", "ol"):
                self.lists = max(0, self.lists + (-1 if closing else 1))
            elif name in ("li", "dt", "dd"):
                self.items = max(0, self.items + (-1 if closing else 1))

    def _table(self, name: str, closing: bool) -> None:
        if name == "table":
            if not closing:
                self._leave_table(layout=True)
                self._flush()
                self.rows = []
            else:
                self._leave_table(layout=False)
            self.tables = max(0, self.tables + (-1 if closing else 1))
        elif self.rows is not None:
            if name == "tr" and not closing:
                self.rows.append([])
            elif name == "caption" and closing:
                self._flush()
            elif name in ("td", "th") and closing:
                if not self.rows:
                    self.rows.append([])
                self.rows[-1].append(self._take())
            else:
                self.words.append(" ")

    def _leave_table(self, layout: bool) -> None:
        """End the rows gathered so far: a table where they have columns, else paragraphs."""
        rows, self.rows = self.rows, None
        if not rows:
            return
        if layout or max(len(cells) for cells in rows) < 2:
            for cell in (cell for cells in rows for cell in cells):
                self.out.add("paragraph", cell)
        else:
            self.out.add("table", "\n".join(line for line in map(row, rows) if line))

    def _flush(self, kind: BlockKind | None = None, level: int = 0) -> None:
        text = self._take(keep=self.pre > 0)
        if self.pre:
            self.out.add("code", text)
        elif kind == "heading":
            self.out.add("heading", " ".join(text.split()), level=level)
        elif self.items and self.lists:
            self.out.add("list_item", text, level=self.lists)
        else:
            self.out.add(kind or "paragraph", text)

    def _take(self, keep: bool = False) -> str:
        text = "".join(self.words)
        self.words.clear()
        return text if keep else "\n".join(" ".join(line.split()) for line in text.split("\n") if line.strip())

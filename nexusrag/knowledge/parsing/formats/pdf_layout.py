"""Reading order and structure of PDF pages: columns by the empty gutter between them, headings by size, paragraphs by distance."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from nexusrag.knowledge.parsing.formats.builder import Builder


@dataclass(slots=True)
class Line:
    """A run of text on one baseline, in PDF points from the lower left corner of the page."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        return self.top - self.bottom

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class Table:
    """A table with ruling lines: its area, and its rows as lines of text."""

    left: float
    bottom: float
    right: float
    top: float
    text: str

    def holds(self, line: Line) -> bool:
        return self.left - 1 <= (line.left + line.right) / 2 <= self.right + 1 and self.bottom - 1 <= line.middle <= self.top + 1


@dataclass(slots=True)
class PageLines:
    """One page: its lines in reading order, and the tables that replace some of them."""

    number: int
    lines: list[Line]
    tables: list[Table] = field(default_factory=list)


_MARGIN = 45.0
_HEADING_RATIO = 1.15
_HEADING_CHARS = 200
_SOFT_HYPHENS = ("\x02", "\ufffe", "\u00ad")
_BULLET = re.compile(r"(?:[•●▪◦‣∙·○■□–—\uf0b7-]|\(?(?:\d{1,2}|[a-z])[.)])\s+\S")
_LIST_MARK = re.compile(r"[•●▪◦‣∙·○■□\uf0b7]$")
_ENDS = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")


def merged(lines: Iterable[Line]) -> list[Line]:
    """Neighbouring fragments on one baseline as one: many writers place every word by itself."""
    out: list[Line] = []
    for line in lines:
        last = out[-1] if out else None
        if last and abs(last.bottom - line.bottom) < last.height / 2 and -1 <= line.left - last.right < max(last.height, line.height):
            last.right, last.top, last.bottom = line.right, max(last.top, line.top), min(last.bottom, line.bottom)
            last.text = f"{last.text} {line.text}"
        else:
            out.append(Line(line.text, line.left, line.bottom, line.right, line.top))
    return out


def gutter(lines: Sequence[Line], width: float, height: float) -> float | None:
    """Where the empty strip between two columns stands, None for a page that has none.

    A strip counts when at most one line in twenty crosses it, each side holds a quarter of the lines, and those fill their column:
    the cells of a table do not.
    """
    body = [line for line in lines if line.top < height - _MARGIN and line.bottom > _MARGIN]
    if len(body) < 8:
        return None
    low, high = int(width * 0.35), int(width * 0.65)
    steps = [0] * (high - low + 2)
    for line in body:
        first, last = max(low, int(line.left) + 1), min(high + 1, int(line.right) + 1)
        if first < last:
            steps[first - low] += 1
            steps[last - low] -= 1
    x = _emptiest(steps, low)
    left = [line for line in body if line.right <= x + 1]
    right = [line for line in body if line.left >= x - 1]
    crossing = len(body) - len(left) - len(right)
    if crossing > max(1, len(body) // 20) or min(len(left), len(right)) < len(body) / 4:
        return None
    return x if _filled(left, width) and _filled(right, width) else None


def _emptiest(steps: list[int], low: int) -> float:
    """The middle of the widest strip with the fewest crossings."""
    crossings, count = [], 0
    for step in steps[:-1]:
        count += step
        crossings.append(count)
    least = min(crossings)
    best = (0, 0)
    start = None
    for index, value in enumerate([*crossings, least + 1]):
        if value == least and start is None:
            start = index
        elif value != least and start is not None:
            best = max(best, (index - start, start))
            start = None
    return low + best[1] + best[0] / 2


def _filled(column: list[Line], page_width: float) -> bool:
    width = max(line.right for line in column) - min(line.left for line in column)
    return median(line.right - line.left for line in column) >= max(0.55 * width, 0.2 * page_width)


def interleaved(lines: Sequence[Line], x: float) -> bool:
    """Whether the page's own order ever goes back from the right column to the left one."""
    sides = [line.left >= x for line in lines if line.left >= x or line.right <= x]
    return any(before and not after for before, after in itertools.pairwise(sides))


def in_columns(fragments: Sequence[Line], x: float) -> list[Line]:
    """Reading order of a two-column page: between lines that span both columns, the left column and then the right one."""
    spanning = sorted((line for line in fragments if line.left < x - 1 and line.right > x + 1), key=lambda line: -line.middle)
    others = [line for line in fragments if line.left >= x - 1 or line.right <= x + 1]
    out: list[Line] = []
    for line in [*spanning, None]:
        floor = line.middle if line else float("-inf")
        band = [other for other in others if other.middle > floor]
        others = [other for other in others if other.middle <= floor]
        out += _rows([other for other in band if other.left < x - 1]) + _rows([other for other in band if other.left >= x - 1])
        if line:
            out.append(line)
    return merged(out)


def _rows(column: list[Line]) -> list[Line]:
    """Top to bottom; left to right where baselines agree within a third of a line."""
    out: list[Line] = []
    row: list[Line] = []
    for line in sorted(column, key=lambda line: -line.middle):
        if row and row[0].middle - line.middle > row[0].height / 3:
            out += sorted(row, key=lambda line: line.left)
            row = []
        row.append(line)
    return out + sorted(row, key=lambda line: line.left)


def add_pages(out: Builder, pages: Sequence[PageLines]) -> None:
    """Append all pages as headings, paragraphs, list items and tables. Levels of headings follow the sizes used in the document."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[_size(line)] += len(line.text)
    levels = _heading_levels(sizes)
    for page in pages:
        _add_page(out, page, levels)


def _size(line: Line) -> float:
    return round(line.height * 2) / 2


def _heading_levels(sizes: Counter[float]) -> dict[float, int]:
    """Line height → heading level. Nothing when much of the text is large, as on slides."""
    total = sum(sizes.values())
    seen = 0
    body = 0.0
    for size in sorted(sizes):
        seen += sizes[size]
        if seen * 2 >= total:
            body = size
            break
    large = sorted((size for size in sizes if size >= body * _HEADING_RATIO), reverse=True)
    if not body or sum(sizes[size] for size in large) * 4 > total:
        return {}
    return {size: min(6, rank) for rank, size in enumerate(large, start=1)}


def _add_page(out: Builder, page: PageLines, levels: dict[float, int]) -> None:
    step = _typical_step(page.lines)
    edge = max((line.right for line in page.lines), default=0.0)
    group: list[Line] = []
    group_level = 0
    pending = list(page.tables)

    def flush() -> None:
        if not group:
            return
        text = joined(group)
        if group_level and any(char.isalpha() for char in text):
            out.add("heading", text, level=group_level, page=page.number)
        elif _BULLET.match(text):
            out.add("list_item", text, level=1, page=page.number)
        else:
            out.add("paragraph", text, page=page.number)
        group.clear()

    for line in page.lines:
        if held := next((table for table in page.tables if table.holds(line)), None):
            flush()
            if held in pending:
                pending.remove(held)
                out.add("table", held.text, page=page.number)
            continue
        level = levels.get(_size(line), 0) if len(line.text) <= _HEADING_CHARS else 0
        if group and (level != group_level or _breaks(group, line, step, edge)):
            flush()
        group_level = level
        group.append(line)
    flush()


def _typical_step(lines: Sequence[Line]) -> float:
    """The usual distance from one line to the next."""
    steps = [before.top - after.top for before, after in itertools.pairwise(lines) if 0 < before.top - after.top < 4 * before.height]
    return median(steps) if steps else 0.0


def _breaks(group: list[Line], line: Line, step: float, edge: float) -> bool:
    """Whether `line` begins a new paragraph."""
    last = group[-1]
    down = last.top - line.top
    if _BULLET.match(line.text):
        return True
    if _LIST_MARK.search(last.text) or abs(down) < last.height / 3:
        return False
    ended = bool(_ENDS.search(last.text))
    if down < 0 or down > 4 * last.height:  # next column, or far below
        return ended or not line.text[:1].islower()
    if down > 1.4 * step:
        return True
    indented = line.left - last.left > 0.8 * line.height and len(group) > 1
    short = last.right < group[0].right - 0.2 * (group[0].right - group[0].left) or (last.right < edge * 0.5 and len(group) == 1)
    return ended and (indented or short)


def joined(lines: Sequence[Line]) -> str:
    """Lines of one paragraph as running text; words that were hyphenated at a line's end are whole again."""
    text = ""
    for line in lines:
        piece = line.text.strip()
        if not text:
            text = piece
        elif text.endswith(_SOFT_HYPHENS):
            text = text[:-1] + ("" if piece[:1].islower() else "-") + piece
        else:
            text = f"{text} {piece}"
    return text[:-1] + "-" if text.endswith(_SOFT_HYPHENS) else text

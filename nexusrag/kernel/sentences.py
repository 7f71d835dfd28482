"""Where sentences begin and end. Blank lines, bullets, headings and table rows end one; abbreviations, initials and decimals do not."""

import re


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Never the end of a sentence: something follows that belongs to them.
_OPEN = _words(
    "mr mrs ms dr prof rev hon gen col maj capt lt sgt cmdr adm gov sen rep st mt messrs mme mlle vs viz cf al approx ca e.g i.e "
    "fig figs eq eqs sec ch vol pp op ed eds no nos art par ref refs tab dept univ assn bros est ext "
    "jan feb mar apr jun jul aug sep sept oct nov dec bzw ggf usw vgl abs nr z.b d.h u.a"
)
# Either: the end only if what follows begins like a sentence.
_EITHER = _words("etc inc ltd co corp jr sr a.m p.m u.s u.k u.n e.u ph.d m.d b.a m.a b.c a.d d.c approx")
_STARTERS = _words(
    "a an the this that these those it its he his she her they their we our you your i in on at by for from to of with as if when "
    "while where who what why how after before since because although though however but and or so then there here thus "
    "therefore moreover furthermore also some many most all each every both no not such other another one two during under"
)

_BULLET = re.compile(r"[ \t]*(?:[-*+•‣◦▪·–—]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,5})[.)])[ \t]+(?=\S)")
_ALONE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\||={3,}|-{3,}|\*{3,})")
# Possessive, and only at the start of a run: time stays linear in a text of nothing but full stops.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?:\[\d{1,3}\])*+(?=\s)|[。！？]++[”’」』）]*+")
_WORD = re.compile(r"[^\W_]+(?:\.[^\W_]+)*\Z")
_NEXT = re.compile(r"[\s\"'“‘«(\[]*([^\s.,;:!?\"'”’)\]]*)")
_LOOK_BACK = 24

Span = tuple[int, int]


def sentences(text: str, longest: int = 1000) -> list[Span]:
    """Spans (start, end) of the sentences of `text`, in order and without the white space around them.

    What has no end within `longest` characters is cut at white space where there is some.
    """
    found: list[Span] = []
    for start, end, whole in _blocks(text):
        for span in [(start, end)] if whole else _in_block(text, start, end):
            found.extend(_cut(text, *span, longest))
    return found


def _blocks(text: str) -> list[tuple[int, int, bool]]:
    """Runs of lines that may share a sentence: start, end, and whether it is a heading or a table row, which stays whole."""
    blocks: list[tuple[int, int, bool]] = []
    begun: int | None = None
    previous: Span | None = None
    position = 0
    for line in text.splitlines(keepends=True):
        start, position = position, position + len(line)
        alone = _ALONE.match(line) is not None
        new = alone or _BULLET.match(line) is not None
        ends = new or not line.strip()
        if begun is not None and previous is not None and (ends or _heads(text, begun, previous, line)):
            blocks.append((begun, previous[1], False))
            begun = None
        if not line.strip():
            previous = None
            continue
        begun = start if begun is None else begun
        previous = (start, position)
        if alone:
            blocks.append((begun, position, True))
            begun = previous = None
    if begun is not None:
        blocks.append((begun, position, False))
    return blocks


def _heads(text: str, begun: int, previous: Span, line: str) -> bool:
    """Whether the first line of a block is a heading of the `line` after it: short, unended, and followed by a longer new start."""
    if previous[0] != begun:
        return False
    heading, following = text[previous[0] : previous[1]].strip(), line.strip()
    return (
        len(heading) <= 60
        and heading[-1] not in ".,;:!?-–—…"
        and following[0].isupper()
        and len(following) >= 1.5 * len(heading)
        and len(heading.split()) <= 8
    )


def _in_block(text: str, start: int, end: int) -> list[Span]:
    spans: list[Span] = []
    begun = start
    for match in _END.finditer(text, start, end):
        if not _ends(text, begun, match.start(), match.end(), end):
            continue
        spans.append((begun, match.end()))
        begun = match.end()
    spans.append((begun, end))
    return [trimmed for span in spans if (trimmed := _trim(text, *span)) is not None]


def _ends(text: str, begun: int, mark: int, after: int, end: int) -> bool:
    """Whether the mark at `mark` ends the sentence begun at `begun`; `after` is behind the mark and what closes with it."""
    if text[mark] in "。！？":
        return True
    following = _NEXT.match(text, after, min(end, after + 80))
    word = following[1] if following else ""
    if word[:1].islower():
        return False
    if text[mark] != "." or after - mark > 1:
        return True
    before = _WORD.search(text, max(begun, mark - _LOOK_BACK), mark)
    if before is None:
        return True
    token = before[0].lower()
    first_in_sentence = before.start() - begun < 12 and not text[begun : before.start()].strip(" \t\n([-*•#")
    if first_in_sentence and (token.isdigit() or len(token) == 1):
        return False  # the number of a list item
    if token in _EITHER or (len(token) == 1 and before[0].isupper()):
        return word[:1].isupper() and len(word) > 1 and word.lower() in _STARTERS
    if token in _OPEN:
        return token == "no" and not word[:1].isdigit()
    return True


def _trim(text: str, start: int, end: int) -> Span | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if end > start else None


def _cut(text: str, start: int, end: int, longest: int) -> list[Span]:
    pieces: list[Span] = []
    while end - start > longest:
        space = max(text.rfind(" ", start + longest // 2, start + longest), text.rfind("\n", start + longest // 2, start + longest))
        stop = space if space > 0 else start + longest
        if (piece := _trim(text, start, stop)) is not None:
            pieces.append(piece)
        start = stop
    if (piece := _trim(text, start, end)) is not None:
        pieces.append(piece)
    return pieces

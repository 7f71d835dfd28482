"""Patterns: what may be written, and that RE2, PostgreSQL and Python find the same in every text."""

import re
from time import perf_counter, perf_counter_ns
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.access.policies.patterns import MAX_EXPANDED, Pattern, PatternError, parse_pattern

_PLAIN = "aAbz09 _-ä𝄞\n\t\u2028\x7f\u00ad"
_PUNCTUATION = "\\.*+?()[]{}|^$/-,&~#%'\"_"
_IN_CLASS = "aAbz09 _.*$|(){}+?,&~\n"


def _joined(parts: list[tuple[str, str]]) -> tuple[str, str]:
    return "".join(ours for ours, _ in parts), "".join(theirs for _, theirs in parts)


def _class(negated: bool, members: list[tuple[str, str]]) -> tuple[str, str]:
    ours, theirs = _joined(members)
    sign = "^" if negated else ""
    return f"[{sign}{ours}]", f"[{sign}{theirs}]"


# Pairs: as we write it, and as Python's `re` does.
_one = st.one_of(
    st.sampled_from(_PLAIN).map(lambda char: (char, re.escape(char))),
    st.sampled_from("-,/&~#%'\"_=!<>:;@`").map(lambda char: (char, re.escape(char))),
    st.sampled_from(_PUNCTUATION).map(lambda char: ("\\" + char, re.escape(char))),
    st.just((".", ".")),
    st.builds(
        _class,
        st.booleans(),
        st.lists(
            st.one_of(
                st.sampled_from(_IN_CLASS).map(lambda char: (char, re.escape(char))),
                st.sampled_from(["a-c", "A-Z", "0-9", " -~", "a-a"]).map(lambda text: (text, text)),
                st.sampled_from("\\]^-[").map(lambda char: ("\\" + char, "\\" + char)),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
)
_signs = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,3}", "{0,2}", "{2,}", "{0,}"])


def _grown(inside: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    piece = st.one_of(
        st.tuples(_one, _signs).map(lambda both: (both[0][0] + both[1], both[0][1] + both[1])),
        st.tuples(inside, _signs).map(lambda both: (f"({both[0][0]}){both[1]}", f"(?:{both[0][1]}){both[1]}")),
        st.sampled_from([("^", "^"), ("$", r"\Z")]),
    )
    branch = st.lists(piece, min_size=1, max_size=4).map(_joined)
    return st.lists(branch, min_size=1, max_size=3).map(lambda all_: ("|".join(a for a, _ in all_), "|".join(b for _, b in all_)))


patterns = st.recursive(_one, _grown, max_leaves=8)
# Few characters in short texts, where each decides; and all of them.
_texts = st.one_of(st.text(st.sampled_from("ab\n"), max_size=3), st.text(st.sampled_from(_PLAIN + _PUNCTUATION), max_size=10))
texts = st.lists(_texts, min_size=1, max_size=8)


async def in_postgres(database: "asyncpg.Connection[Any]", pattern: Pattern, texts: list[str]) -> list[bool]:
    found = await database.fetch(
        "select policy_matches(to_jsonb(t), $2) from unnest($1::text[]) with ordinality u (t, n) order by n", texts, pattern.postgres
    )
    return [record[0] for record in found]


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(pair=patterns, texts=texts)
async def test_three_engines_find_the_same(database: "asyncpg.Connection[Any]", pair: tuple[str, str], texts: list[str]) -> None:
    source, python = pair
    try:
        pattern = parse_pattern(source)
    except PatternError:
        return  # what is repeated may match nothing; that this is all, the next test shows
    ours = [pattern.search(text) for text in texts]
    assert ours == [re.search(python, text) is not None for text in texts]
    assert ours == await in_postgres(database, pattern, texts)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("^a.c$", "abc", True),
        ("^a.c$", "a\nc", False),
        ("c$", "abc\n", False),
        ("^b", "a\nb", False),
        ("a|^b$", "b", True),
        ("(^|/)secret(/|$)", "a/secret/b", True),
        ("(^|/)secret(/|$)", "a/secrets/b", False),
        ("[0-9]{4}-[0-9]{2}", "in 2026-01", True),
        ("^[^a]$", "\n", True),
        ("^[\\]x]$", "]", True),
        ("^[-a]$", "-", True),
        ("^[a-]$", "-", True),
        ("^[a-c]$", "-", False),
        ("^(ab){2,}$", "ababab", True),
        ("^(ab){2}$", "ababab", False),
        ("^a{0,2}$", "aaa", False),
        ("^\\{1\\}$", "{1}", True),
        ("^𝄞{2}$", "𝄞𝄞", True),
        ("^Ä$", "ä", False),
        ("^a{1}$", "a", True),
        ("^a{0,1}$", "", True),
        ("^(a+)*$", "", True),
        ("^a~$", "a~", True),
        # The members of a class, and nothing else.
        ("^[ac]$", "c", True),
        ("^[ab]$", "b", True),
        ("^[ac]$", "b", False),
        ("^[ac]$", "~", False),
        ("^[a]$", "~", False),
        ("^[^a]$", "~", True),
        ("^[a-c]$", "d", False),
        ("^[a-a]$", "a", True),
        ("^[+--]$", ",", True),
        ("^[\x01~]$", "~", True),
        ("^[\x01~]$", "\x01", True),
        # Where code points no longer have four digits.
        ("^\uffff$", "\uffff", True),
        ("^\U00010000$", "\U00010000", True),
    ],
)
async def test_what_a_pattern_finds(database: "asyncpg.Connection[Any]", pattern: str, text: str, found: bool) -> None:
    read = parse_pattern(pattern)
    assert read.search(text) is found
    assert await in_postgres(database, read, [text]) == [found]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "missing"),
        ("a|", "missing"),
        ("|a", "missing"),
        ("()", "missing"),
        ("(a", "not closed"),
        ("a)", "nothing was opened"),
        ("[a", "not closed"),
        ("[]", "empty"),
        ("[]]", "empty"),
        ("[^]", "empty"),
        ("[b-a]", "range"),
        ("[a-c-e]", "write"),
        ("[[:alpha:]]", "write"),
        ("[[.a.]]", "write"),
        ("[ä]", "ASCII"),
        ("[\0]", "ASCII"),
        ("[\x7f]", "ASCII"),
        ("[a-", "write"),
        ("[+--a]", "write"),
        ("[a^]", "write"),
        ("[a[]", "write"),
        ("[a\\d]", "backslash"),
        ("\\d", "backslash"),
        ("\\b", "backslash"),
        ("\\1", "backslash"),
        ("(a)\\1", "backslash"),
        ("\\ä", "backslash"),
        ("a\\", "backslash"),
        ("*a", "repeat"),
        ("?a", "repeat"),
        ("+a", "repeat"),
        ("***=a", "repeat"),
        ("***:(?i)a", "repeat"),
        ("(?i)a", "no options"),
        ("(?:a)", "no options"),
        ("(?=a)", "no options"),
        ("(?<n>a)", "no options"),
        ("a**", "follow"),
        ("a*?", "follow"),
        ("a++", "follow"),
        ("a{2}{3}", "follow"),
        ("{2}", "repeat"),
        ("a{", "repetition is"),
        ("a{,2}", "repetition is"),
        ("a{2", "repetition is"),
        ("a{x}", "repetition is"),
        ("a{2,x}", "repetition is"),
        ("a{,}", "repetition is"),
        ("a{٢}", "repetition is"),
        ("a{ 2}", "repetition is"),
        ("a{1000}", "repetition is"),
        ("a{3,2}", "from m to n"),
        ("a{0}", "from m to n"),
        ("a{0,0}", "from m to n"),
        ("a}", "write"),
        ("a]", "write"),
        ("^*", "holds no"),
        ("$+", "holds no"),
        ("(^a)*", "holds no"),
        ("(a$)*", "holds no"),
        ("(a|$)*", "holds no"),
        ("((^)a)+", "holds no"),
        ("(a?)*", "must match something"),
        ("((a*))+", "must match something"),
        ("(a{0,2}b?)+", "must match something"),
        ("(a*|b){2}", "must match something"),
        ("(a{20}){20}", "stands for more"),
        ("((a{9}b){9}c){9}", "stands for more"),
    ],
)
def test_what_is_no_pattern(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        parse_pattern(pattern)


@pytest.mark.parametrize(
    ("most", "too_much", "why"),
    [
        ("\\." * 128, "\\." * 128 + "a", "at most 256"),
        ("(" * 20 + "a" + ")" * 20, "(" * 21 + "a" + ")" * 21, "nested at most 20"),
        # What a pattern stands for when its repetitions are written out is counted.
        ("a{250}", "a{251}", "more than 250"),
        ("[ab]{250}", "[ab]{251}", "more than 250"),
        ("(a{25}){10}", "(a{25}b){10}", "more than 250"),
        ("a{125}b{125}", "a{125}b{126}", "more than 250"),
        ("a{125}|b{125}", "a{125}|b{126}", "more than 250"),
        ("^a{248}$", "^a{249}$", "more than 250"),
        ("(a{250})+", "(a{250}b)+", "more than 250"),
        ("a{249,}", "a{250,}", "more than 250"),
        # What may be left out counts for six more.
        ("(a{244})?", "(a{245})?", "more than 250"),
        ("(a{244})*", "(a{245})*", "more than 250"),
        ("a{0,244}", "a{0,245}", "more than 250"),
        ("(a{243}){0,}", "(a{244}b){0,}", "more than 250"),
        ("a?" * 35 + "bbbbb", "a?" * 35 + "bbbbbb", "more than 250"),
    ],
)
def test_patterns_up_to_their_limits(most: str, too_much: str, why: str) -> None:
    assert parse_pattern(most).source == most
    with pytest.raises(PatternError, match=why):
        parse_pattern(too_much)


@pytest.mark.parametrize(
    ("pattern", "character"),
    [
        ("", 1), ("|a", 1), ("a|", 3), ("()", 2), ("(a", 3), ("a)", 2), ("[a", 3), ("[]", 2), ("[^]", 3), ("[b-a]", 5), ("[a-c-e]", 5),
        ("[a[]", 3), ("[ä]", 2), ("[a\\d]", 4), ("\\d", 2), ("a\\", 3), ("a|*", 3), ("(?:a)", 2), ("a**", 3), ("a{x}", 3), ("a{2,1}", 3),
        ("ab}", 3), ("(^a)*", 5), ("a{251}", 7),
    ],
)  # fmt: skip
def test_a_refusal_names_the_character(pattern: str, character: int) -> None:
    with pytest.raises(PatternError, match=f"^At character {character}: "):
        parse_pattern(pattern)


def test_a_text_that_cannot_be_stored_is_not_found() -> None:
    assert parse_pattern("a").search("a\ud800") is False


@settings(max_examples=1000, deadline=None)
@given(st.text(st.sampled_from("ab(|)[]{}^$*+?.\\,-01\nä"), max_size=20))
def test_any_text_is_a_pattern_that_works_or_is_refused(source: str) -> None:
    try:
        pattern = parse_pattern(source)
    except PatternError:
        return
    pattern.search("ab01\n")


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.sampled_from("ab(|)[]{}^$*+?.\\,-01\nä"), max_size=20), texts)
async def test_what_is_accepted_postgres_accepts_and_finds_alike(
    database: "asyncpg.Connection[Any]", source: str, texts: list[str]
) -> None:
    try:
        pattern = parse_pattern(source)
    except PatternError:
        return
    assert [pattern.search(text) for text in texts] == await in_postgres(database, pattern, texts)


# The dearest that is allowed, by different ways: nested repetitions, many optional parts, many states at once.
COSTLY = [
    "(a+)+$",
    "(a|a)+$",
    "(a|b)*a[ab]{240}$",
    f"[a-z]{{0,{MAX_EXPANDED - 7}}}z",
    "(.{1,50}x){4}y",
    "(([^b]{1,9}a+){4}b*c){4}",
    "a?" * 35 + "z",
    "[^a]*[^b]*" * 17 + "z",
    "((a|b){1,10}c?){1,8}z",
]


@pytest.mark.slow
@pytest.mark.parametrize("source", COSTLY)
async def test_no_pattern_is_expensive(database: "asyncpg.Connection[Any]", source: str) -> None:
    text = "abaababbab" * 100  # as long as a value of metadata may be

    pattern = parse_pattern(source)

    def search() -> float:
        began = perf_counter()
        parse_pattern(source).search(text)
        return perf_counter() - began

    async def ask() -> float:
        began = perf_counter()
        # Another one each time, so that it was not compiled before.
        await database.fetchval("select policy_matches(to_jsonb($1::text), $2)", text, f"(?:{pattern.postgres})(?:{perf_counter_ns()})?")
        return perf_counter() - began

    # Ten milliseconds on a quiet machine; what grows exponentially would take for ever.
    assert min(search() for _ in range(5)) < 0.5
    assert min([await ask() for _ in range(5)]) < 0.5

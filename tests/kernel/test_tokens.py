"""The form of a key: what is no key is known without asking the database, and what is stored is no key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import is_well_formed, keyed_hash, kind_of, mint

KEY = mint("api", new_id("key"))


def test_a_minted_key_is_well_formed_and_names_its_row() -> None:
    assert is_well_formed(KEY.secret)
    assert KEY.secret.split("_")[2] == KEY.id.removeprefix("key_")
    assert KEY.secret.startswith(KEY.prefix)
    assert len(KEY.prefix) < len(KEY.secret) - 38


def test_a_key_says_of_what_kind_it_is() -> None:
    assert kind_of(KEY.secret) == "api"
    assert kind_of(mint("scim", new_id("scim")).secret) == "scim"
    assert kind_of(KEY.secret[1:]) is None


@pytest.mark.parametrize("place", range(len(KEY.secret)))
def test_every_character_counts(place: int) -> None:
    for other in "aZ0_-":
        if other != KEY.secret[place]:
            assert not is_well_formed(KEY.secret[:place] + other + KEY.secret[place + 1 :])


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_other_text_is_a_key(text: str) -> None:
    for candidate in (text, KEY.secret + text if text else "", text + KEY.secret if text else "", KEY.secret[: len(text)] + text):
        assert candidate == KEY.secret or not is_well_formed(candidate)


def test_keys_differ_and_their_hashes_depend_on_the_pepper() -> None:
    assert len({mint("api", KEY.id).secret for _ in range(100)}) == 100
    assert keyed_hash(KEY.secret, "one pepper") != keyed_hash(KEY.secret, "another pepper")
    assert len(keyed_hash(KEY.secret, "one pepper")) == 32


def test_keys_that_were_given_out_stay_good() -> None:
    """Their form and their hash are fixed: neither can change while a key of today is in use."""
    given = "nrag_api_0199c9e2f1a87b6c8d9e0f1a2b3c4d5e_Zy0aB9xW8vC7uD6tE5sF4rG3qH2pI1oJ2UFfAs"
    assert is_well_formed(given)
    assert keyed_hash(given, "pepper").hex() == "3092e44d042a1528f8c36c4677d1b41f9664b81d6266001f796ff32946e37df9"
    assert KEY.prefix == KEY.secret[: len("nrag_api_") + 12]

"""The format of stored files: exact bytes, round trips, and every alteration found."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.security.crypto.blob import TAG, Header, Opener, Sealer, decrypt_stream, encrypt_stream, take_header
from nexusrag.security.crypto.keyring import LocalKeyring, MasterKey

CHUNK = 32
MASTER = bytes.fromhex("7f1c0d52a9e34b86c8f0513e9d27b46a10e5c2938f7a6b4d01d8e3f29ab5c764")
OTHER_MASTER = bytes(reversed(MASTER))
KEYRING = LocalKeyring(MASTER)

# Written once; a release that cannot read or write exactly this has broken every stored file.
GOLDEN_PLAIN = b"The aim of the format is to be read by every later release."
GOLDEN = (
    b"NRB1\x00\xef"
    b'{"alg":"AES-256-GCM-STREAM","chunk":32,"format":1,"key":"local-test","nonce":"21222324252627","version":1,'
    b'"wrapped":"'
    b"28292a2b2c2d2e2f303132336f9786c6cc62c914b16a4899cc49949ac75bd8927fc3d433329eac5ad0e51a6566a18b006413"
    b'4f33454f74352ba3bbba"}'
    + bytes.fromhex("f6e064899d40e5f2de08304bf9e35f869c92d39074218d85f3900b14f697341652ee7ccbf867c3e8e048decd60225592")
    + bytes.fromhex("1163981f881389319b818a57c2615f976099d695a72e8055fd7f5a193289cb8eb27ba6a135f1a1c116dcce")
)


def counting_random() -> Iterator[int]:
    yield from range(1, 256)


def seal(plain: bytes, *, tenant: str = "t1", blob: str = "doc_1", chunk: int = CHUNK, master: bytes = MASTER) -> bytes:
    sealer = Sealer(_master(master), tenant, blob, chunk=chunk)
    pending = bytearray(plain)
    return b"".join([sealer.header.encode(), *sealer.seal(pending), sealer.finish(pending)])


def unseal(sealed: bytes, *, tenant: str = "t1", blob: str = "doc_1", master: bytes = MASTER) -> bytes:
    pending = bytearray(sealed)
    header = take_header(pending)
    if header is None:
        raise ApiError(ErrorCode.DECRYPTION_FAILED, "ends in its header")
    opener = Opener(header, _master(master), tenant, blob)
    return b"".join([*opener.open(pending), opener.finish(pending)])


def _master(key: bytes) -> MasterKey:
    return MasterKey("local-test", 1, key)


def refused(sealed: bytes, **place: str) -> bool:
    try:
        unseal(sealed, **place)  # type: ignore[arg-type]
    except ApiError as error:
        assert error.code is ErrorCode.DECRYPTION_FAILED
        return True
    return False


def split(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """The header and the sealed chunks."""
    start = 6 + int.from_bytes(sealed[4:6], "big")
    return sealed[:start], [sealed[at : at + CHUNK + TAG] for at in range(start, len(sealed), CHUNK + TAG)]


async def stream(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_golden_file_is_read_and_written_exactly() -> None:
    numbers = counting_random()
    sealer = Sealer(_master(MASTER), "t1", "doc_1", chunk=CHUNK, random=lambda n: bytes(next(numbers) for _ in range(n)))
    pending = bytearray(GOLDEN_PLAIN)
    assert b"".join([sealer.header.encode(), *sealer.seal(pending), sealer.finish(pending)]).hex() == GOLDEN.hex()
    assert unseal(GOLDEN) == GOLDEN_PLAIN


def test_golden_file_opens_by_the_description_alone() -> None:
    """A second reader, written from the comment at the top of the format and sharing no code with it."""

    def aad(*parts: str) -> bytes:
        return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in ("nexusrag/blob", *parts))

    assert GOLDEN[:4] == b"NRB1"
    end = 6 + int.from_bytes(GOLDEN[4:6], "big")
    header = json.loads(GOLDEN[6:end])
    stable = json.dumps({name: header[name] for name in ("alg", "chunk", "format", "nonce")}, separators=(",", ":"))
    wrapping = HKDF(SHA256(), 32, salt=None, info=b"nexusrag/blob/wrap/1").derive(MASTER)
    wrapped = bytes.fromhex(header["wrapped"])
    key_aad = aad("key", "t1", "doc_1", stable, header["key"], str(header["version"]))
    data_key = AESGCM(wrapping).decrypt(wrapped[:12], wrapped[12:], key_aad)
    plain, at, count = b"", end, 0
    while at < len(GOLDEN):
        sealed = GOLDEN[at : at + header["chunk"] + 16]
        at += len(sealed)
        nonce = bytes.fromhex(header["nonce"]) + count.to_bytes(4, "big") + bytes([at == len(GOLDEN)])
        plain += AESGCM(data_key).decrypt(nonce, sealed, aad("chunk", "t1", "doc_1", stable))
        count += 1
    assert plain == GOLDEN_PLAIN


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 10 * CHUNK])
def test_round_trip_around_the_borders_of_chunks(size: int) -> None:
    plain = bytes(i % 251 for i in range(size))
    sealed = seal(plain)
    assert unseal(sealed) == plain
    chunks = max(1, -(-size // CHUNK))
    assert len(sealed) == len(split(sealed)[0]) + size + chunks * TAG


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=5 * CHUNK), st.lists(st.integers(1, 3 * CHUNK), max_size=8), st.integers(1, 2 * CHUNK))
async def test_pieces_of_any_size_give_the_same_file(plain: bytes, cuts: list[int], step: int) -> None:
    parts, rest = [], plain
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    master = await KEYRING.current("t1")
    sealed = b"".join([part async for part in encrypt_stream(stream([*parts, rest]), master, "t1", "doc_1", chunk=CHUNK)])
    resliced = [sealed[at : at + step] for at in range(0, len(sealed), step)]
    assert b"".join([part async for part in decrypt_stream(stream(resliced), KEYRING, "t1", "doc_1")]) == plain


def test_every_flipped_bit_is_found() -> None:
    sealed = seal(bytes(2 * CHUNK + 5))
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            assert refused(bytes(flipped)), f"bit {bit} of byte {at}"


@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * CHUNK, 2 * CHUNK + 5])
def test_every_truncation_is_found(size: int) -> None:
    sealed = seal(bytes(size))
    assert not [length for length in range(len(sealed)) if not refused(sealed[:length])]


def test_every_extension_is_found() -> None:
    for size in (0, 5, CHUNK, 2 * CHUNK):
        sealed = seal(bytes(size))
        _, chunks = split(sealed)
        for tail in (b"\0", bytes(TAG), bytes(CHUNK + TAG), chunks[-1], chunks[0], sealed):
            assert refused(sealed + tail), (size, len(tail))


def test_dropped_repeated_and_reordered_chunks_are_found() -> None:
    header, chunks = split(seal(bytes(range(256))[: 4 * CHUNK]))
    a, b, c, d = chunks
    for order in ([b, a, c, d], [a, a, b, c, d], [a, c, d], [b, c, d], [a, b, c], [d], [a, b, d, c], [a, b, c, d, d], []):
        assert refused(header + b"".join(order))


def test_chunks_and_headers_of_another_file_are_found() -> None:
    header, chunks = split(seal(bytes(2 * CHUNK)))
    other_header, other_chunks = split(seal(bytes(2 * CHUNK)))
    assert refused(header + chunks[0] + other_chunks[1])
    assert refused(other_header + chunks[0] + chunks[1])


def test_a_file_of_another_tenant_name_or_key_is_refused() -> None:
    sealed = seal(b"secret")
    assert refused(sealed, tenant="t2")
    assert refused(sealed, blob="doc_2")
    assert refused(sealed, tenant="t1doc", blob="_1")
    assert refused(sealed, master=OTHER_MASTER)  # type: ignore[arg-type]
    assert unseal(sealed) == b"secret"


def test_an_empty_chunk_at_the_end_is_not_a_second_spelling_of_a_file() -> None:
    sealer = Sealer(_master(MASTER), "t1", "doc_1", chunk=CHUNK)
    cipher = sealer._cipher
    sealed = sealer.header.encode() + cipher.encrypt(bytes(CHUNK), last=False) + cipher.encrypt(b"", last=True)
    assert refused(sealed)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "AES-128-GCM-STREAM"},
        {"format": 2},
        {"format": 0},
        {"chunk": 0},
        {"chunk": -1},
        {"chunk": 2**40},
        {"chunk": 32.0},
        {"chunk": True},
        {"version": 0},
        {"version": "1"},
        {"version": 10**400},
        {"key": "../x"},
        {"key": ["local-test"]},
        {"nonce": ""},
        {"nonce": "0" * 15},
        {"wrapped": "00"},
        {"wrapped": None},
        {"extra": 1},
    ],
)
def test_headers_that_we_would_not_write_are_refused(change: dict[str, object]) -> None:
    header, chunks = split(seal(b"x"))
    text = json.dumps(json.loads(header[6:]) | change, sort_keys=True, separators=(",", ":")).encode()
    assert refused(b"NRB1" + len(text).to_bytes(2, "big") + text + b"".join(chunks))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"{", b"[" * 2000, b"\xff", b'"' + b"a" * 3000 + b'"', b"9" * 2000])
def test_headers_that_are_no_headers_are_refused(text: bytes) -> None:
    assert refused(b"NRB1" + len(text).to_bytes(2, "big") + text)
    assert refused(b"NRB1\xff\xff" + text)


def test_spaces_and_capitals_in_a_header_are_refused() -> None:
    header, _ = split(seal(b"x"))
    text = header[6:]
    for other in (text.replace(b":", b": "), text.replace(b"a", b"A"), text + b" ", text.replace(b'"alg"', b'"chunk":32,"alg"')):
        with pytest.raises(ApiError):
            Header.parse(other)


def test_two_files_share_neither_key_nor_nonce() -> None:
    headers = [split(seal(b"same"))[0] for _ in range(200)]
    fields = [json.loads(header[6:]) for header in headers]
    assert len({field["nonce"] for field in fields}) == len({field["wrapped"][:24] for field in fields}) == 200


async def test_plaintext_comes_only_from_verified_chunks() -> None:
    header, chunks = split(seal(bytes(range(96))))
    damaged = bytearray(chunks[1])
    damaged[0] ^= 1
    given_out = b""
    master = LocalKeyring(MASTER)
    header = header.replace(b"local-test", (await master.current("t1")).key_id.encode())
    with pytest.raises(ApiError):
        async for part in decrypt_stream(stream([header, chunks[0], bytes(damaged), chunks[2]]), master, "t1", "doc_1"):
            given_out += part
    assert given_out == b""  # the altered key id alone has refused the whole file

    master_key = await master.current("t1")
    whole = b"".join([part async for part in encrypt_stream(stream([bytes(range(96))]), master_key, "t1", "doc_1", chunk=CHUNK)])
    header, chunks = split(whole)
    with pytest.raises(ApiError) as failure:
        async for part in decrypt_stream(stream([header, chunks[0], bytes(damaged), chunks[2]]), master, "t1", "doc_1"):
            given_out += part
    assert failure.value.code is ErrorCode.DECRYPTION_FAILED
    assert given_out == bytes(range(CHUNK))

"""The local master key: which texts are one, which are refused, and that it shows nowhere."""

import base64

import pytest
from pydantic import SecretStr

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.security.crypto.keyring import LocalKeyring, MasterKey
from nexusrag.settings import SettingsError, load
from nexusrag.settings.storage import decode_master_key

KEY = bytes.fromhex("7f1c0d52a9e34b86c8f0513e9d27b46a10e5c2938f7a6b4d01d8e3f29ab5c7fb")
BASE64 = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "text", [KEY.hex(), KEY.hex().upper(), BASE64, BASE64.rstrip("="), base64.urlsafe_b64encode(KEY).decode(), f" {KEY.hex()}\n"]
)
def test_hex_and_base64_name_the_same_key(text: str) -> None:
    assert decode_master_key(text) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "changeme",
        "short",
        KEY.hex()[:-2],
        KEY.hex() + "00",
        KEY.hex()[:43],  # 43 hex digits are also base64 of 32 bytes
        KEY.hex()[:44],
        base64.b64encode(KEY[:31]).decode(),
        base64.b64encode(KEY + b"x").decode(),
        base64.b64encode(KEY.hex().encode()).decode(),
        base64.b64encode(b"change-me-change-me-change-me-32").decode(),
        base64.b64encode(bytes(32)).decode(),
        bytes(range(32)).hex(),
        bytes(range(64, 0, -2)).hex(),
        ("0123456789abcdef" * 4),
        "00" * 31 + "01",
        BASE64[:-2] + chr(ord(BASE64[-2]) + 1) + "=",  # same bytes, other trailing bits
        "+/" + BASE64[2:-3] + "-_=",
        "ключ" * 11,
    ],
)
def test_short_ambiguous_and_predictable_keys_stop_the_start_without_being_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(env={"CRYPTO_LOCAL_MASTER_KEY": text})
    (line,) = refused.value.lines
    assert line.startswith("CRYPTO_LOCAL_MASTER_KEY: ")
    assert text not in line
    with pytest.raises(SettingsError):
        LocalKeyring.from_settings(SecretStr(text))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SettingsError, match="CRYPTO_LOCAL_MASTER_KEY: needed"):
        LocalKeyring.from_settings(SecretStr(""))


def test_an_s3_store_needs_a_bucket() -> None:
    with pytest.raises(SettingsError, match="S3_BUCKET"):
        load(env={"BLOB_STORE": "s3"})


async def test_a_file_under_another_key_is_named_not_tried() -> None:
    here, elsewhere = LocalKeyring(KEY), LocalKeyring(KEY[::-1])
    theirs = await elsewhere.current("t1")
    with pytest.raises(ApiError, match=theirs.key_id) as refused:
        await here.get("t1", theirs.key_id, theirs.version)
    assert refused.value.code is ErrorCode.DECRYPTION_FAILED
    mine = await here.current("t1")
    assert await here.get("t1", mine.key_id, mine.version) == mine


def test_key_material_stays_out_of_repr() -> None:
    key = MasterKey("local-1", 1, KEY)
    assert repr(KEY) not in repr(key)
    assert KEY.hex() not in repr(key)

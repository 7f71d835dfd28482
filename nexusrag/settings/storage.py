"""Where files are kept, and under which key."""

import base64
import binascii
import itertools
import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from nexusrag.settings.group import Group

MASTER_KEY_BYTES = 32
_HEX = re.compile(r"[0-9a-fA-F]+")


class StorageSettings(Group):
    blob_store: Literal["directory", "s3"] = Field("directory", description="directory: under the home; s3: any S3-compatible one")
    blob_directory: str = Field("", description="directory of the blob store; empty: <home>/blobs")
    s3_bucket: str = Field("", description="bucket of the S3 store")
    s3_prefix: str = Field("", description="prefix of its keys")
    s3_endpoint_url: str = Field("", description="endpoint, for S3-compatible stores")
    crypto_local_master_key: SecretStr = Field(
        SecretStr(""), description="32 bytes, base64 or hex, under which stored files are encrypted; made by embedded mode"
    )

    @field_validator("crypto_local_master_key")
    @classmethod
    def _usable_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            decode_master_key(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _bucket_named(self) -> Self:
        if self.blob_store == "s3" and not self.s3_bucket:
            raise ValueError("S3_BUCKET: needed when BLOB_STORE is s3")
        return self


def decode_master_key(text: str) -> bytes:
    """The 32 bytes of a master key given as 64 hexadecimal digits or as base64 (standard or URL-safe, padding optional).

    Raises ValueError, without quoting the key, when the text can be read in two ways, has another length or was not drawn at
    random.
    """
    text = text.strip()
    if _HEX.fullmatch(text):
        # Hex first: a run of hex digits of another length is a mangled hex key, though base64 could read it too.
        if len(text) != 2 * MASTER_KEY_BYTES:
            raise ValueError(f"has {len(text)} hexadecimal digits; 64 are needed")
        key = bytes.fromhex(text)
    else:
        key = _from_base64(text)
    _refuse_predictable(key)
    return key


def _from_base64(text: str) -> bytes:
    bare = text.rstrip("=")
    if {"+", "/"} & set(bare) and {"-", "_"} & set(bare):
        raise ValueError("mixes standard and URL-safe base64")
    standard = bare.replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is neither 64 hexadecimal digits nor base64") from error
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"decodes to {len(key)} bytes; 32 are needed (make one with: openssl rand -base64 32)")
    if base64.b64encode(key).rstrip(b"=").decode() != standard:
        raise ValueError("is not canonical base64; copy it again")
    return key


def _refuse_predictable(key: bytes) -> None:
    """A random key passes with a probability of all but 1 in 10^13; zeros, counters, repeats and passphrases do not."""
    step = (key[1] - key[0]) % 256
    counter = all((after - before) % 256 == step for before, after in itertools.pairwise(key))
    printable = all(32 <= byte < 127 for byte in key)
    if counter or printable or len(set(key)) < 12:
        raise ValueError("is a placeholder or a passphrase, not 32 random bytes (make one with: openssl rand -base64 32)")

"""What other domains may use of encryption: the store of files."""

from nexusrag.security.crypto.store import BlobStore, StoredBlob

__all__ = ["BlobStore", "StoredBlob"]

"""What other domains may use of encryption: the store of files."""

from nexusrag.security.crypto.store import BlobStore, Reserved, StoredBlob

__all__ = ["BlobStore", "Reserved", "StoredBlob"]

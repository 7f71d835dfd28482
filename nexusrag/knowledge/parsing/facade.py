"""What other domains may ask of parsing."""

from nexusrag.knowledge.parsing.chunking import Chunk, check_chunk_params, embedded_text
from nexusrag.knowledge.parsing.formats.model import ParseError
from nexusrag.knowledge.parsing.formats.registry import detect
from nexusrag.knowledge.parsing.sandbox import ChunkParams, ParsedResult, Progress, Sandbox, SandboxUnavailable

__all__ = [
    "Chunk",
    "ChunkParams",
    "ParseError",
    "ParsedResult",
    "Progress",
    "Sandbox",
    "SandboxUnavailable",
    "check_chunk_params",
    "detect",
    "embedded_text",
]

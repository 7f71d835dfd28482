"""`provider_config_json`: which system retrieves for a corpus, and how. Anything malformed is refused with the field's name."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import Feature

_TopK = Annotated[int, Field(ge=1, le=50, strict=True)]
_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class _Provider(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    top_k_default: _TopK = 5


class LocalPgvector(_Provider):
    """Our own index."""

    provider: Literal["local_pgvector"] = "local_pgvector"


class BedrockKnowledgeBase(_Provider):
    """An AWS Bedrock knowledge base."""

    provider: Literal["aws_bedrock_kb"]
    knowledge_base_id: _Name
    region: _Name


class VertexSearch(_Provider):
    """A Vertex AI Search data store."""

    provider: Literal["gcp_vertex"]
    project: _Name
    location: _Name
    resource_id: _Name


RetrievalConfig = Annotated[LocalPgvector | BedrockKnowledgeBase | VertexSearch, Field(discriminator="provider")]
_RETRIEVAL: TypeAdapter[LocalPgvector | BedrockKnowledgeBase | VertexSearch] = TypeAdapter(RetrievalConfig)
# What a tenant's plan must have to retrieve through each.
_FEATURES: Mapping[str, Feature] = {
    "local_pgvector": Feature.LOCAL_PGVECTOR,
    "aws_bedrock_kb": Feature.AWS_BEDROCK,
    "gcp_vertex": Feature.GCP_VERTEX,
}


def parse(config: dict[str, Any]) -> LocalPgvector | BedrockKnowledgeBase | VertexSearch:
    """The configuration; `{}` means our own index. Raises ApiError(RETRIEVAL_CONFIG_INVALID) that names the field."""
    unknown = sorted(set(config) - {"retrieval"})
    if unknown:
        raise _invalid(unknown[0], "unknown field")
    given = config.get("retrieval", {})
    if not isinstance(given, dict):
        raise _invalid("retrieval", "must be an object")
    try:
        return _RETRIEVAL.validate_python({"provider": "local_pgvector", **given})
    except ValidationError as error:
        fault = error.errors()[0]
        # The discriminator's tag is not part of the field's name.
        path = [str(part) for part in fault["loc"] if part not in ("local_pgvector", "aws_bedrock_kb", "gcp_vertex")]
        raise _invalid(".".join(["retrieval", *(path or ["provider"])]), fault["msg"]) from error


def normalised(config: dict[str, Any]) -> dict[str, Any]:
    """What is stored: every default filled in."""
    return {"retrieval": parse(config).model_dump()}


def feature_of(config: dict[str, Any]) -> Feature:
    """What a plan must have for a corpus with this configuration."""
    return _FEATURES[parse(config).provider]


def _invalid(field: str, why: str) -> ApiError:
    return ApiError(ErrorCode.RETRIEVAL_CONFIG_INVALID, f"provider_config_json.{field}: {why}", {"field": f"provider_config_json.{field}"})

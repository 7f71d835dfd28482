"""`provider_config_json`: what is stored for a good one, and which field of a bad one is named."""

from typing import Any

import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.corpora.config import normalised

BEDROCK = {"provider": "aws_bedrock_kb", "knowledge_base_id": "KB1", "region": "eu-central-1"}
VERTEX = {"provider": "gcp_vertex", "project": "p", "location": "global", "resource_id": "store"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"provider": "local_pgvector", "top_k_default": 5}),
        ({"retrieval": {}}, {"provider": "local_pgvector", "top_k_default": 5}),
        ({"retrieval": {"top_k_default": 50}}, {"provider": "local_pgvector", "top_k_default": 50}),
        ({"retrieval": BEDROCK}, {**BEDROCK, "top_k_default": 5}),
        ({"retrieval": {**VERTEX, "top_k_default": 1}}, {**VERTEX, "top_k_default": 1}),
    ],
)
def test_defaults_are_filled_in(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert normalised(given) == {"retrieval": stored}
    assert normalised(normalised(given)) == normalised(given)


@pytest.mark.parametrize(
    ("retrieval", "field"),
    [
        ({"provider": "elastic"}, "retrieval.provider"),
        ({"provider": None}, "retrieval.provider"),
        ({"provider": ["local_pgvector"]}, "retrieval.provider"),
        ({"provider": {}}, "retrieval.provider"),
        ({"provider": "LOCAL_PGVECTOR"}, "retrieval.provider"),
        ({"top_k_default": 0}, "retrieval.top_k_default"),
        ({"top_k_default": 51}, "retrieval.top_k_default"),
        ({"top_k_default": "5"}, "retrieval.top_k_default"),
        ({"top_k_default": True}, "retrieval.top_k_default"),
        ({"top_k_default": 2.0}, "retrieval.top_k_default"),
        ({"region": "eu-central-1"}, "retrieval.region"),
        ({**BEDROCK, "knowledge_base_id": ""}, "retrieval.knowledge_base_id"),
        ({**BEDROCK, "region": "http://169.254.169.254/ x"}, "retrieval.region"),
        ({**BEDROCK, "region": "a\n"}, "retrieval.region"),
        ({**BEDROCK, "region": "r" * 257}, "retrieval.region"),
        ({**BEDROCK, "api_key": "x"}, "retrieval.api_key"),
        ({"provider": "aws_bedrock_kb", "region": "r"}, "retrieval.knowledge_base_id"),
        ({key: value for key, value in VERTEX.items() if key != "project"}, "retrieval.project"),
        ([], "retrieval"),
        (None, "retrieval"),
        ("local_pgvector", "retrieval"),
    ],
)
def test_a_malformed_configuration_names_its_field(retrieval: Any, field: str) -> None:
    with pytest.raises(ApiError) as caught:
        normalised({"retrieval": retrieval})
    assert caught.value.code is ErrorCode.RETRIEVAL_CONFIG_INVALID
    assert caught.value.details == {"field": f"provider_config_json.{field}"}


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ApiError, match=r"provider_config_json\.generation"):
        normalised({"generation": {}})

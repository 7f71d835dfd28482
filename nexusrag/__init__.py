"""NexusRAG: answers from an organisation's own documents, per tenant, through one streaming API."""

__version__ = "0.1.0"

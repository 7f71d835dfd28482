"""Backend for the web console (/v1/ui/*); composes other domains, owns no table."""

"""Bootstrap: what the console asks first. Composes other domains and owns no table."""

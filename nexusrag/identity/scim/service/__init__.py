"""Use cases of provisioning, one file for each kind of thing."""

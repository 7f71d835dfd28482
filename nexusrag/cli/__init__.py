"""The nexusrag command."""

"""Settings by group, and the only place that reads the environment."""

from nexusrag.settings.load import Settings, SettingsError, load

__all__ = ["Settings", "SettingsError", "load"]

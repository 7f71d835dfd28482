"""How long things are kept that maintenance removes by itself."""

from pydantic import Field

from nexusrag.settings.group import Group


class MaintenanceSettings(Group):
    audit_retention_days: int = Field(90, ge=1, le=36_500, description="how long events of the audit log are kept")
    ui_action_retention_days: int = Field(30, ge=1, le=3650, description="how long finished jobs of the console's actions are kept")
    usage_counter_retention_days: int = Field(120, ge=62, le=3650, description="how long counters of usage are kept after their period")
    job_retention_days: int = Field(7, ge=1, le=3650, description="how long other finished jobs are kept")

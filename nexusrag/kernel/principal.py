"""Who is calling."""

from dataclasses import dataclass

from nexusrag.kernel.actions import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `subject_id` is the user behind the credential; `is_home`: their tenant is the home tenant."""

    tenant_id: str
    subject_id: str
    role: Role
    api_key_id: str
    is_home: bool = False

    def __repr__(self) -> str:
        return f"Principal({self.tenant_id}/{self.subject_id}, {self.role})"

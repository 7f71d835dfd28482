"""The routes of the application as a test sees them."""

import re
from dataclasses import dataclass

from nexusrag.kernel.actions import LEAST_ROLE, Role
from nexusrag.kernel.principal import Credential
from nexusrag.web.gate import Gate
from nexusrag.web.route import GatedRoute
from tests.support.api import Api


@dataclass(frozen=True, slots=True)
class Known:
    """One method of one route."""

    method: str
    path: str
    gate: Gate
    legacy: bool

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    def at(self, **values: str) -> str:
        """The path with its parameters filled in; what is not given is made up."""
        return re.sub(r"{(\w+)}", lambda match: values.get(match[1], "made-up"), self.path)

    @property
    def least_role(self) -> Role | None:
        return None if self.gate.action is None else LEAST_ROLE[self.gate.action]

    @property
    def provisions(self) -> bool:
        """Whether it is for provisioning clients, who have a protocol of their own (tests/identity/scim)."""
        return Credential.SCIM in self.gate.credentials

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def known_routes(api: Api) -> list[Known]:
    """Every route; the start of the application has already refused what is not one of ours."""
    routes = [route for route in api.app.router.routes if isinstance(route, GatedRoute)]
    assert len(routes) == len(api.app.router.routes)
    return [Known(method, route.path, route.gate, route.legacy) for route in routes for method in sorted(route.methods or ())]

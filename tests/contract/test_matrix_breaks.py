"""The matrix itself is proven: with a wall and a predicate gone it finds leaks, and each of the walls alone makes up for the predicate."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from nexusrag.identity.users import repository as users
from nexusrag.identity.users.models import User
from nexusrag.infra.database import Work
from nexusrag.kernel.errors import not_found
from nexusrag.knowledge.corpora import repository as corpora
from nexusrag.knowledge.corpora.models import CorpusView
from tests.contract.probes import places
from tests.contract.table import known_routes
from tests.contract.test_matrix import learned, team
from tests.contract.things import Stock
from tests.support.api import Api
from tests.support.installation import Servers
from tests.support.pipelines import without_stage
from tests.support.walls import Standing, walled

pytestmark = pytest.mark.slow
Patch = pytest.MonkeyPatch


def a_statement_forgets_its_tenant(patch: Patch) -> None:
    async def find(work: Work, corpus_id: str) -> CorpusView:
        row = await work.raw.fetchrow(
            "select tenant_id, id, key, name, visibility, provider_config, space_id, created_by, created_at, updated_at from corpora "
            "where id = $1 and deleted_at is null", corpus_id,
        )  # fmt: skip
        if row is None:
            raise not_found("corpus")
        return CorpusView(*row)

    patch.setattr(corpora, "find", find)


def an_entity_is_read_without_its_tenant(patch: Patch) -> None:
    async def find_user(work: Work, user_id: str) -> User | None:
        return await work.session.scalar(select(User).where(User.id == user_id))

    patch.setattr(users, "find_user", find_user)


CASES: dict[tuple[Callable[[Patch], None], Standing], bool] = {
    (a_statement_forgets_its_tenant, "both walls"): False,
    (a_statement_forgets_its_tenant, "no row-level security"): True,
    (an_entity_is_read_without_its_tenant, "both walls"): False,
    (an_entity_is_read_without_its_tenant, "no criterion"): False,
    (an_entity_is_read_without_its_tenant, "no row-level security"): False,
    (an_entity_is_read_without_its_tenant, "no wall"): True,
}


@pytest.mark.parametrize(("break_", "standing"), CASES, ids=lambda one: one if isinstance(one, str) else one.__name__)
async def test_the_matrix_turns_red_when_no_wall_makes_up_for_it(
    servers: Servers, monkeypatch: Patch, break_: Callable[[Patch], None], standing: Standing
) -> None:
    async with walled(servers, standing) as api:
        victim = await Stock(api, await api.person("admin")).fill()
        people = await team(api)
        own = await Stock(api, people["admin"], "tenant").fill()
        break_(monkeypatch)
        concerned = [place for place in places(known_routes(api)) if place.kind in ("corpus", "user") and place.at not in place.sent.taken]
        assert bool(await learned(people, own, victim, concerned, least=20)) is CASES[break_, standing]


async def test_the_matrix_turns_red_when_permissions_on_documents_are_not_asked(api: Api) -> None:
    victim = await Stock(api, await api.person("admin")).fill()
    people = await team(api, victim.owner.tenant)
    reads = [place for place in places(known_routes(api)) if (place.kind, place.route.method) == ("document", "GET")]
    assert await learned({"editor": people["editor"]}, victim, victim, reads, least=3) == []
    with without_stage(api.app, "document permissions"):
        assert await learned({"editor": people["editor"]}, victim, victim, reads, least=3) != []

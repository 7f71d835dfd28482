"""The proof itself is proven: with one guard taken out of the product, it finds differences."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from sqlalchemy import and_, any_, bindparam, exists, literal, or_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from nexusrag.access.permissions import repository as permissions
from nexusrag.access.policies import decide
from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.caller import Caller, describe
from nexusrag.governance.authorization import repository as explaining
from nexusrag.identity.credentials import checks
from nexusrag.infra.changes import Changes
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge import visibility
from nexusrag.knowledge.corpora.models import Corpus
from nexusrag.knowledge.documents import repository as documents
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.retrieval import repository as retrieval
from tests.proof.compare import Tally, proving
from tests.support.api import Api

pytestmark = pytest.mark.slow
Patch = pytest.MonkeyPatch
STEP, MOST = 5, 200  # worlds at once, and until the proof has failed
_STATEMENTS = (visibility.condition, documents._loaded, documents._newest_first, retrieval.search)


@pytest.fixture
def patch() -> Iterator[Patch]:
    """Statements are kept for the life of a process, which no break does."""
    with pytest.MonkeyPatch.context() as patch:
        _forget()
        yield patch
    _forget()


def _forget() -> None:
    for kept in _STATEMENTS:
        kept.cache_clear()


def _clauses_of(condition: Callable[..., Any]) -> Callable[..., list[Any]]:
    return lambda *arguments: list(condition(*arguments).clauses)


def denying_policies_are_not_asked(patch: Patch) -> None:
    first = decide._Side.first
    patch.setattr(decide._Side, "first", lambda side, attributes: None if side._denies else first(side, attributes))


def denying_policies_do_not_reach_the_statement(patch: Patch) -> None:
    residual = decide._residual
    patch.setattr(decide, "_residual", lambda said, values: residual([False, said[1]], values))


def what_is_unknown_denies_nothing(patch: Patch) -> None:
    side = decide._Side.__init__
    patch.setattr(decide._Side, "__init__", lambda self, policies, *, denies: side(self, policies, denies=False))
    patch.setattr(decide.Policy, "applies", lambda self, outcome: outcome is True)


def what_is_unknown_grants(patch: Patch) -> None:
    side = decide._Side.__init__
    patch.setattr(decide._Side, "__init__", lambda self, policies, *, denies: side(self, policies, denies=True))
    patch.setattr(decide.Policy, "applies", lambda self, outcome: outcome is not False)


def allowing_policies_do_not_reach_the_statement(patch: Patch) -> None:
    residual = decide._residual
    patch.setattr(decide, "_residual", lambda said, values: residual([said[0], False], values))


def expiry_is_ignored(patch: Patch) -> None:
    real = _clauses_of(permissions._in_force)
    patch.setattr(permissions, "_in_force", lambda *given: and_(*real(*given)[:-1]))


def an_owner_has_nothing(patch: Patch) -> None:
    real = _clauses_of(permissions._in_force)
    patch.setattr(permissions, "_in_force", lambda table, needed: and_(table.permission == needed.value, *real(table, needed)[1:]))


def groups_are_those_of_long_ago(patch: Patch) -> None:
    """Membership is kept with the caller, and never read again."""
    known: dict[tuple[str, str], list[str]] = {}
    real_values, real_parts = permissions.caller, _clauses_of(permissions._in_force)

    def values(principal: Principal) -> dict[str, Any]:
        groups = known.setdefault((principal.tenant_id, principal.subject_id), [f"group:{one}" for one in principal.groups])
        made = real_values(principal)
        return {**made, "caller_roles": [*made["caller_roles"], *groups]}

    def in_force(table: Any, permission: Any) -> Any:
        right, whom, valid = real_parts(table, permission)
        roles: Any = bindparam("caller_roles", type_=ARRAY(Text))
        group = and_(table.principal_type == "group", (literal("group:") + table.principal_id) == any_(roles))
        return and_(right, or_(and_(table.principal_type != "group", whom), group), valid)

    patch.setattr(permissions, "_in_force", in_force)
    patch.setattr(visibility, "caller_values", values)
    patch.setattr(documents, "caller", values)


def changes_are_not_heard(patch: Patch) -> None:
    patch.setattr(Changes, "tell", lambda *_: None)


def corpora_that_are_deleted_are_still_there(patch: Patch) -> None:
    def in_any_corpus(condition: Any = None) -> Any:
        corpus = exists().where(Corpus.tenant_id == Document.tenant_id, Corpus.key == Document.corpus_key)
        return (corpus if condition is None else corpus.where(condition)).correlate_except(Corpus)

    for module in (visibility, explaining):
        patch.setattr(module, "in_living_corpus", in_any_corpus)


def every_corpus_is_open(patch: Patch) -> None:
    real = visibility.in_living_corpus
    patch.setattr(visibility, "in_living_corpus", lambda condition=None: real())


def an_open_corpus_is_written_by_everybody(patch: Patch) -> None:
    real = visibility.condition.__wrapped__

    @cache
    def condition(shape: visibility.Shape) -> Any:
        return or_(real(shape), visibility.in_living_corpus(Corpus.visibility == "tenant"))

    for module in (visibility, retrieval):
        patch.setattr(module, "condition", condition)


def nothing_is_denied_by_default(patch: Patch) -> None:
    patch.setattr(visibility, "_unbound", lambda caller: True)


def every_admin_reaches_everything(patch: Patch) -> None:
    patch.setattr(visibility, "_unbound", lambda caller: not caller.default_deny or caller.principal.is_admin)


def a_key_is_as_wide_as_its_person(patch: Patch) -> None:
    real = checks.principal_of
    patch.setattr(
        checks,
        "principal_of",
        lambda row, kind, default_plan: real({**row, "key_role": "admin", "key_custom_role": None}, kind, default_plan),
    )


def a_revoked_key_is_good(patch: Patch) -> None:
    real = checks.checked
    patch.setattr(checks, "checked", lambda row, kind, settings: real({**row, "revoked_at": None, "active": True}, kind, settings))


def roles_are_not_checked(patch: Patch) -> None:
    patch.setattr(Principal, "may", lambda self, action: True)


def a_policy_on_every_action_binds_none(patch: Patch) -> None:
    def about(self: decide.PolicySet, kind: str, action: str) -> list[decide.Policy]:
        return [one for one in self.policies if (one.resource_type, one.action) == (kind, action)]

    patch.setattr(decide.PolicySet, "_about", about)


def the_request_is_another_when_rows_are_judged(patch: Patch) -> None:
    def ruling(self: Caller, resource: Resource, verb: str, columns: Mapping[str, str], parameter: str) -> Any:
        return self.policies.residual(resource.value, verb, Attributes(describe(self.principal), {}), columns, parameter)

    patch.setattr(Caller, "ruling", ruling)


# Each guard with the answers in which its loss must show.
BREAKS: dict[Callable[[Patch], None], set[str]] = {
    denying_policies_are_not_asked: {"check"},
    denying_policies_do_not_reach_the_statement: {"list", "search", "count"},
    what_is_unknown_denies_nothing: {"check", "list", "explain"},
    what_is_unknown_grants: {"check", "list"},
    allowing_policies_do_not_reach_the_statement: {"list", "search"},
    expiry_is_ignored: {"check", "list", "search"},
    an_owner_has_nothing: {"check", "list", "search"},
    groups_are_those_of_long_ago: {"check", "list"},
    changes_are_not_heard: {"check", "list"},
    corpora_that_are_deleted_are_still_there: {"check", "list", "explain"},
    every_corpus_is_open: {"check", "list", "search"},
    an_open_corpus_is_written_by_everybody: {"list"},
    nothing_is_denied_by_default: {"check", "list", "search"},
    every_admin_reaches_everything: {"check", "list"},
    a_key_is_as_wide_as_its_person: {"check", "list"},
    a_revoked_key_is_good: {"caller"},
    roles_are_not_checked: {"check", "list", "explain"},
    a_policy_on_every_action_binds_none: {"check", "list"},
    the_request_is_another_when_rows_are_judged: {"list"},
}


@pytest.mark.parametrize("break_", BREAKS, ids=lambda break_: break_.__name__)
async def test_the_proof_turns_red_when(api: Api, patch: Patch, break_: Callable[[Patch], None]) -> None:
    tally, first = Tally(), 0
    async with proving(api.servers, api.app, api.resources) as proof:
        break_(patch)
        while not BREAKS[break_] <= _channels(tally) and first < MOST:
            await proof.run(range(first, first + STEP), tally)
            first += STEP
    assert BREAKS[break_] <= _channels(tally)


def _channels(tally: Tally) -> set[str]:
    return {difference.partition(",")[0] for difference in tally.differences}

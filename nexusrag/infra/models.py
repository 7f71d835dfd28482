"""The base classes of all tables."""

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TIMESTAMP, Text


class Base(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
    }


class TenantScoped:
    """Mixed into every table whose rows belong to one tenant; the key starts with the tenant unless ids are made by us."""

    tenant_id: Mapped[str] = mapped_column(primary_key=True)


Moment = TIMESTAMP(timezone=True)

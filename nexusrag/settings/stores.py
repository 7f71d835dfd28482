"""PostgreSQL and Redis."""

from pydantic import Field, SecretStr

from nexusrag.settings.group import Group


class StoreSettings(Group):
    database_url: SecretStr = Field(
        SecretStr(""), description="postgresql://user:password@host/db of the application; empty: embedded PostgreSQL"
    )
    database_migration_url: SecretStr = Field(
        SecretStr(""), description="login that may create roles and tables, used by `nexusrag migrate` alone; empty: DATABASE_URL"
    )
    redis_url: SecretStr = Field(SecretStr(""), description="redis://host:6379/0 (6.2 or newer); empty: embedded Redis")
    api_db_pool_size: int = Field(10, ge=1, le=500, description="database connections kept per process")
    api_db_max_overflow: int = Field(2, ge=0, le=500, description="connections beyond the pool at peaks")
    api_db_statement_timeout_ms: int = Field(15000, ge=100, description="longest statement")
    embedded_pg_port: int = Field(
        0,
        ge=0,
        le=32767,
        description="also listen on this TCP port of 127.0.0.1; 0: unix socket only (ports from 32768 are ephemeral)",
    )

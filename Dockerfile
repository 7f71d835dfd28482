# One image for the API, the workers and the migrations: `docker build -t nexusrag .`
FROM python:3.12-slim AS build
WORKDIR /app
COPY requirements.lock requirements-uv.lock ./
COPY scripts/install.sh scripts/
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
# Compiled here, once: the running container may not write to /app.
RUN scripts/install.sh requirements.lock && rm .venv/bin/uv && .venv/bin/python -m compileall -q -j 0 .venv

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/nexusrag --create-home nexusrag
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY alembic.ini pyproject.toml ./
COPY alembic alembic
COPY scripts scripts
COPY nexusrag nexusrag
RUN .venv/bin/python -m compileall -q nexusrag
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NEXUSRAG_HOME=/var/lib/nexusrag \
    API_HOST=0.0.0.0
USER nexusrag
VOLUME /var/lib/nexusrag
EXPOSE 8000
# For the API; a container that runs something else turns it off.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v1/healthz', timeout=2)"]
ENTRYPOINT ["nexusrag"]
CMD ["api"]

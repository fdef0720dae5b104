# The image of the Prefect server and worker, of the MLflow server and of the Ray head, where jobs run: all of constraints.txt.
# From the repository root: docker build -f infra/orchestrator.Dockerfile -t bestiary-orchestrator:1 .
# An index with CPU builds of torch, given as --build-arg PIP_EXTRA_INDEX_URL=..., saves several GB here.
FROM python:3.11.15-slim-bookworm
ARG PIP_EXTRA_INDEX_URL=

# git: DVC works in a git checkout, and a registered model carries its commit.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml constraints.txt /tmp/bestiary/
RUN pip install --no-cache-dir -c /tmp/bestiary/constraints.txt "/tmp/bestiary[services]"

ARG UID=1000
ARG GID=1000
RUN groupadd --non-unique --gid "${GID}" bestiary \
    && useradd --non-unique --uid "${UID}" --gid "${GID}" --create-home bestiary
USER bestiary

WORKDIR /bestiary
ENV PYTHONPATH=/bestiary \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0
CMD ["prefect", "version"]

# The image of the Ray nodes that work: CUDA, Python, torch and Ray, and DVC for nodes that pull their data; no Prefect, no MLflow.
# From the repository root: docker build -f infra/trainer.Dockerfile -t bestiary-trainer:1 .
# torch's wheels bring CUDA 13.0's libraries, so the base adds only what the driver looks for.
FROM python:3.11.15-slim-bookworm AS python

FROM nvidia/cuda:13.0.3-base-ubuntu24.04
# The same interpreter as the orchestrator's: Ray wants equal Pythons on all nodes, and Ubuntu 24.04 has no 3.11.
COPY --from=python /usr/local/ /usr/local/
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libexpat1 libffi8 libreadline8t64 libsqlite3-0 \
        libssl3t64 tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && ldconfig

# Names only: constraints.txt says which version.
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir -c /tmp/constraints.txt \
        torch "ray[train]" "dvc[s3]" filelock numpy safetensors pillow pyyaml psutil tqdm

ARG UID=1000
ARG GID=1000
RUN userdel --remove ubuntu \
    && groupadd --non-unique --gid "${GID}" bestiary \
    && useradd --non-unique --uid "${UID}" --gid "${GID}" --create-home bestiary
USER bestiary

# The checkout is mounted here, at the same path on every node.
WORKDIR /bestiary
ENV PYTHONPATH=/bestiary \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
CMD ["python", "-c", "import ray, torch; print(ray.__version__, torch.__version__, torch.cuda.is_available())"]

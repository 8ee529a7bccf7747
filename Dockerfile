# The pipeline, and the MLflow server of docker-compose.yml; see docs/containers.md.
#
#   docker build --tag abo-vqa .                                     # for a CPU
#   docker build --tag abo-vqa:cuda --build-arg TORCH_BACKEND= .     # for a GPU: the lock's build
#   docker build --tag abo-vqa-mlflow --target tracking .
ARG BASE_IMAGE=python:3.11.13-slim-bookworm

FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 --shell /bin/bash abo
USER 1000
ENV DVC_NO_ANALYTICS=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    UV_LINK_MODE=copy
# Volumes take their owner from what is here.
RUN mkdir -p /home/abo/abo-vqa/.venv /home/abo/artifacts /home/abo/.cache/uv
WORKDIR /home/abo/abo-vqa


FROM base AS tracking
ENV PATH=/home/abo/mlflow/bin:$PATH
COPY --chown=abo:abo requirements.lock ./
RUN --mount=type=cache,target=/home/abo/.cache/uv,uid=1000,gid=1000 \
    python -m venv /home/abo/mlflow \
    && python -m pip install --quiet --disable-pip-version-check uv==0.13.9 \
    && uv pip install --quiet --compile-bytecode --python /home/abo/mlflow/bin/python \
        --constraint requirements.lock 'mlflow[auth]' psycopg2-binary boto3
VOLUME /home/abo/artifacts
EXPOSE 5000
CMD ["mlflow", "server", "--host=0.0.0.0"]


FROM base AS pipeline
# Which build of torch, as for `make`; empty: the lock's, which brings CUDA's libraries along.
ARG TORCH_BACKEND=cpu
ENV TORCH_BACKEND=${TORCH_BACKEND} \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/home/abo/abo-vqa/.venv/bin:$PATH
# Libraries are gigabytes and change seldom: a layer of their own, before the sources.
COPY --chown=abo:abo Makefile pyproject.toml requirements.lock ./
RUN make .venv/bin/uv
RUN --mount=type=cache,target=/home/abo/.cache/uv,uid=1000,gid=1000 \
    uv pip install --quiet --compile-bytecode --python .venv/bin/python \
        --constraint requirements.lock ${TORCH_BACKEND:+--torch-backend=${TORCH_BACKEND}} \
        --requirement pyproject.toml --extra postgres --extra s3 --extra scale
COPY --chown=abo:abo . .
RUN --mount=type=cache,target=/home/abo/.cache/uv,uid=1000,gid=1000 make setup
CMD ["make", "repro"]

# didact in a container, without torch unless EXTRAS asks for it; docs/install.md says how to use it.
#   docker build -t didact .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" didact inspect pool.jsonl
# Not built here: hadolint has checked it, and its commands have been run by hand.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG EXTRAS=fast,dedup,tokenize
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir "$(echo /wheels/didact-*.whl)[${EXTRAS}]" \
    && install --directory --mode=1777 /cache /data
# whoever runs it: what is kept lies in a volume that anybody may write, results in the mounted /data
ENV DIDACT_CACHE=/cache HOME=/tmp
VOLUME /cache
USER 1000
WORKDIR /data
ENTRYPOINT ["didact"]
CMD ["--help"]

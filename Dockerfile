# One small image for every service: `docker run IMAGE service hedger`, `… run`, `… simulate`.
# Built from requirements.lock (hashes checked); runs as a user without rights; no compiler inside.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hedgelock
WORKDIR /build
COPY requirements.lock ./
RUN /opt/hedgelock/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/hedgelock/bin/pip install --no-deps --no-build-isolation . \
 && /opt/hedgelock/bin/python -m compileall -q /opt/hedgelock/lib

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin hedgelock \
 && install -d -o hedgelock -g hedgelock -m 700 /data \
 && touch /etc/hedgelock-image
COPY --from=build /opt/hedgelock /opt/hedgelock
# Inside a container everything binds all addresses; what is published decides who reaches it.
ENV PATH=/opt/hedgelock/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HTTP__HOST=0.0.0.0 \
    SIM__HOST=0.0.0.0 \
    DATA_DIR=/data
WORKDIR /data
VOLUME /data
# By number, so that an orchestrator can see that it is not root.
USER 10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["hedgelock", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["hedgelock"]
CMD ["run"]

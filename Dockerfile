# One image for every role: a validator, an observer, the one-shot that founds a cluster.
#
#   docker build -t consilium .
#   docker run --rm consilium --help

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
# plyvel has wheels for x86_64 alone.
RUN if [ "$(uname -m)" != x86_64 ]; then \
      apt-get update && apt-get install --yes --no-install-recommends g++ libleveldb-dev && rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /source
COPY requirements.lock requirements-build.lock ./
# Nothing is resolved here: exactly the files whose hashes the locks name.
RUN python -m venv /opt/consilium \
 && /opt/consilium/bin/pip install --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && /opt/consilium/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/consilium/bin/pip check \
 && /opt/consilium/bin/python -m pip uninstall --yes pip

FROM python:3.12-slim-bookworm
RUN if [ "$(uname -m)" != x86_64 ]; then \
      apt-get update && apt-get install --yes --no-install-recommends libleveldb1d && rm -rf /var/lib/apt/lists/*; \
    fi
RUN groupadd --system --gid 10001 consilium \
 && useradd --system --uid 10001 --gid consilium --home-dir /var/lib/consilium --create-home \
      --shell /usr/sbin/nologin consilium
COPY --from=build /opt/consilium /opt/consilium
ENV PATH=/opt/consilium/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CONSILIUM_HEALTH_PORT=7200
USER consilium
WORKDIR /var/lib/consilium
VOLUME /var/lib/consilium
EXPOSE 7100 7200
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-I", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['CONSILIUM_HEALTH_PORT']}/healthz\", timeout=4)"]
ENTRYPOINT ["consilium"]
CMD ["--help"]

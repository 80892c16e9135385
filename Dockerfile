# The explorer on a CPU, as a user without rights, on a root file system that is only read.
#   docker build -t influcoder .
#   docker run --rm -p 127.0.0.1:8765:8765 -v ./runs/demo/index:/index:ro -v ./token:/run/secrets/token:ro influcoder
# The first stage installs as `make install` does: torch first, so that its CPU build satisfies all that follows.
FROM python:3.11-slim AS install
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/influcoder
COPY requirements.lock ./
RUN /opt/influcoder/bin/python -m pip install --quiet "$(grep '^torch==' requirements.lock)" \
    && /opt/influcoder/bin/python -m pip install --quiet -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/influcoder/bin/python -m pip install --quiet --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=install /opt/influcoder /opt/influcoder
RUN useradd --system --no-create-home --uid 10001 influcoder \
    && mkdir /state && chown influcoder /state
ENV PATH=/opt/influcoder/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HOME=/tmp
USER 10001
VOLUME /state
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/readyz', timeout=4)"]
ENTRYPOINT ["influcoder", "serve", "--host", "0.0.0.0", "--port", "8765", "--state-dir", "/state"]
CMD ["--index", "/index", "--token-file", "/run/secrets/token"]

# The gateway. The root file system may be read-only: what is written goes to /var/lib/portcullis (a volume), and the
# socket of an embedded Redis to /tmp:
#
#   docker run --read-only --tmpfs /tmp -v portcullis:/var/lib/portcullis … portcullis init     (then: serve)

FROM python:3.12 AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/portcullis
WORKDIR /src
COPY requirements-image.lock requirements-compile.lock ./
RUN /opt/portcullis/bin/pip install --require-hashes --only-binary :all: -r requirements-image.lock
RUN python -m venv /opt/compile \
 && /opt/compile/bin/pip install --require-hashes --only-binary :all: -r requirements-compile.lock
COPY pyproject.toml README.md ./
COPY config config
COPY seeds seeds
COPY gateway gateway
# The data plane as native code. The lock holds the build backend too, so that nothing is fetched here.
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=1 /opt/compile/bin/pip wheel --no-index --no-deps --no-build-isolation -w /wheel . \
 && /opt/portcullis/bin/pip install --no-index --no-deps /wheel/*.whl

FROM python:3.12-slim
RUN groupadd --system --gid 10001 portcullis \
 && useradd --system --uid 10001 --gid portcullis --no-create-home --home-dir /var/lib/portcullis \
            --shell /usr/sbin/nologin portcullis \
 && install -d -m 0700 -o portcullis -g portcullis /var/lib/portcullis
COPY --from=build /opt/portcullis /opt/portcullis
COPY config/portcullis.toml /etc/portcullis/portcullis.toml

# Clients come in from outside the container. The admin API does not, unless PORTCULLIS_ADMIN__LISTEN says so.
ENV PATH=/opt/portcullis/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PORTCULLIS_CONFIG=/etc/portcullis/portcullis.toml \
    PORTCULLIS_STATE_DIR=/var/lib/portcullis \
    PORTCULLIS_PROXY__LISTEN=0.0.0.0:8080

USER 10001:10001
WORKDIR /var/lib/portcullis
VOLUME /var/lib/portcullis
EXPOSE 8080 8081

# Not urllib: it would ask http_proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-Ic", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8081, timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["portcullis"]
CMD ["serve"]

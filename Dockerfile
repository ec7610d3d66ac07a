# One image for the server, the worker and the migrations; the database is its own.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY prometheus_nt prometheus_nt
COPY strategies strategies
COPY adapters adapters
COPY persistence persistence
RUN python -m venv /opt/prometheus \
 && /opt/prometheus/bin/pip install --no-cache-dir -c constraints.txt '.[sample]'

FROM python:3.11-slim
RUN useradd --system --create-home --uid 10001 prometheus \
 && install -d -o prometheus -g prometheus /var/lib/prometheus
COPY --from=build /opt/prometheus /opt/prometheus
COPY configs /etc/prometheus/configs
ENV PATH=/opt/prometheus/bin:$PATH PROMETHEUS_HOME=/var/lib/prometheus TZ=UTC \
    PYTHONUNBUFFERED=1
USER prometheus
WORKDIR /etc/prometheus
VOLUME /var/lib/prometheus
EXPOSE 8000
ENTRYPOINT ["prometheus"]
CMD ["serve", "--host", "0.0.0.0"]

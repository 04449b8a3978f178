# syntax=docker/dockerfile:1

# Holdfast as an image. One server: docker run --network host -v holdfast:/data holdfast. A cluster: docker-compose.yml.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /holdfast
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/holdfast/target \
    cargo build --release --locked --features jemalloc && cp target/release/holdfast /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 holdfast \
    && useradd --uid 10001 --gid holdfast --no-create-home --shell /usr/sbin/nologin holdfast \
    && install -d -o holdfast -g holdfast /data /repository
COPY --from=build /usr/local/bin/holdfast /usr/local/bin/
COPY conf /etc/holdfast
USER holdfast
WORKDIR /data
# The data, and a place for file:// repositories. New named volumes take over owner and mode of these directories.
VOLUME ["/data", "/repository"]
# MySQL, HTTP of an FE; RPC, HTTP of a BE.
EXPOSE 9030 8030 9060 8040
# An FE or standalone answers on the first port, a BE on the second.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD curl -fsS http://127.0.0.1:8030/api/health || curl -fsS http://127.0.0.1:8040/api/health
ENTRYPOINT ["holdfast"]
CMD ["standalone", "--data-dir", "/data"]

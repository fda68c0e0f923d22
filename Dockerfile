# docker build -t jay .   then   docker run -p 9000:9000 -p 9001:9001 -p 4444:4444 -v jay:/data jay
# Runs under any user: docker run --user 4711:4711 -v /srv/jay:/data jay (who owns /srv/jay).
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake clang && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p jay-server \
    && mkdir -p /out/bin /out/data && chmod 1777 /out/data \
    && for name in jay jay-admin jay-config; do cp "target/release/$name" /out/bin/; done

FROM gcr.io/distroless/cc-debian12
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build --chmod=1777 /out/data /data
# Also the variables of other stores, so that a test set-up changes only its image; JAY_* variables win.
ENV JAY_DATA_DIR=/data JAY_COMPAT_ENV=1
USER 1000:1000
VOLUME /data
EXPOSE 9000 9001 4444
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/usr/local/bin/jay", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/jay"]

# Puts programs that are built already into the images of Dockerfile: `make images`. The context is made by deploy/compose/rootfs.
ARG ENGINE_BASE=debian:bookworm-slim@sha256:96e378d7e6531ac9a15ad505478fcc2e69f371b10f5cdf87857c4b8188404716

FROM scratch AS aran
COPY bin/aran /aran
COPY --chown=65532:65532 rootfs/ /
USER 65532:65532
ENTRYPOINT ["/aran"]

FROM ${ENGINE_BASE} AS engine
COPY bin/aran bin/aran-llama /
COPY --chown=65532:65532 rootfs/run/ /run/
COPY --chown=65532:65532 rootfs/var/ /var/
COPY rootfs/etc/ssl/ /etc/ssl/
USER 65532:65532
ENTRYPOINT ["/aran"]

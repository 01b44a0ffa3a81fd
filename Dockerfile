# The image of Roster: the static binary, the roots that TLS clients trust, and
# two folders that it may write. There is no shell in it and nobody is root.
#
#   docker build --build-arg VERSION="$(git describe --tags --always)" -t roster .
#   docker run --rm -p 127.0.0.1:50051:50051 -v roster:/data roster serve --sample
#   docker exec CONTAINER /roster get 1 2
FROM golang:1.26 AS build
WORKDIR /src
# The modules first: their layer stays as long as these two files do.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN make build VERSION="$VERSION"
RUN install -d -m 1777 /image/tmp && install -d -o 65532 -g 65532 -m 0750 /image/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /image/ /
COPY --from=build /src/bin/roster /roster
USER 65532:65532
VOLUME /data
EXPOSE 50051
# serve listens on every address of the container, since its own loopback is
# nobody else's; the other commands, and the health check, call it there.
ENV ROSTER_ADDR=:50051 ROSTER_STORE=/data/roster.db ROSTER_SERVER=http://127.0.0.1:50051
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/roster", "health", "--timeout", "2s"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/roster"]
CMD ["serve"]

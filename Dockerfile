# A static binary on an image without shell and packages, run by an unprivileged user:
#
#   docker build --build-arg VERSION=$(git describe --tags --always) -t tallyman .
#
# Commands of --exec need an image that has them: copy /usr/bin/tallyman into one of yours.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=unknown TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/usr/bin/tallyman ./cmd/tallyman && \
    mkdir -p /out/var/lib/tallyman

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build --chown=65532:65532 /out /
ENV TALLYMAN_DATA=/var/lib/tallyman
VOLUME /var/lib/tallyman
USER 65532:65532
# gRPC; HTTP: dashboard, API, metrics
EXPOSE 7650 7651
ENTRYPOINT ["/usr/bin/tallyman"]
CMD ["--help"]

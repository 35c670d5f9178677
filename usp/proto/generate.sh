#!/bin/sh
# Regenerates usp/uspmsg and usp/usprecord. Needs protoc 3.21 on PATH; protoc-gen-go is pinned by go.mod's tool line.
set -eu
cd "$(dirname "$0")/../.."
protoc --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
	-I usp/proto --go_out=. --go_opt=module=twinspan \
	usp/proto/usp-msg.proto usp/proto/usp-record.proto

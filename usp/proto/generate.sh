#!/bin/sh
# Regenerates usp/uspmsg and usp/usprecord, and the reference that tests compare with. Needs protoc 3.21 on PATH; protoc-gen-go is pinned by
# go.mod's tool line. What protoc-gen-go writes is the reference; lite makes of it the plain types that the agent links (docs/decisions/0007).
set -eu
cd "$(dirname "$0")/../.."
ref=twinspan/usp/proto/internal
protoc --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" -I usp/proto --go_out=. --go_opt=module=twinspan \
	--go_opt="Musp-msg.proto=$ref/refmsg;refmsg" --go_opt="Musp-record.proto=$ref/refrecord;refrecord" \
	usp/proto/usp-msg.proto usp/proto/usp-record.proto
go run ./usp/proto/lite -package uspmsg -o usp/uspmsg/usp-msg.go usp/proto/internal/refmsg/usp-msg.pb.go
go run ./usp/proto/lite -package usprecord -o usp/usprecord/usp-record.go usp/proto/internal/refrecord/usp-record.pb.go

#!/bin/sh
# Regenerates usp/uspmsg and usp/usprecord. Needs protoc 3.21 on PATH; protoc-gen-go is pinned by go.mod's tool line.
# The methods for printing (String of messages) and the deprecated Descriptor are cut out again: nothing uses them, and they keep the text
# format of protobuf in the agent, 90 kB (docs/decisions/0007).
set -eu
cd "$(dirname "$0")/../.."
protoc --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
	-I usp/proto --go_out=. --go_opt=module=twinspan \
	usp/proto/usp-msg.proto usp/proto/usp-record.proto
for f in usp/uspmsg/usp-msg.pb.go usp/usprecord/usp-record.pb.go; do
	awk '
		/^\/\/ Deprecated: Use .*Descriptor instead\.$/ { skip = 1; next }
		/^func \(x \*[A-Za-z0-9_]+\) String\(\) string \{$/ { held = $0; getline; if ($0 ~ /MessageStringOf/) { skip = 1; next } print held }
		skip && /^}$/ { skip = 0; blank = 1; next }
		skip { next }
		blank && /^$/ { blank = 0; next }
		{ blank = 0; print }
	' "$f" >"$f.new"
	mv "$f.new" "$f"
	gofmt -l "$f"
done

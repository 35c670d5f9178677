package firmware

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// platform is a program for two banks, as a device maker would write one.
const platform = `
cd "$0.d" || exit 1
case "$1" in
list)
	for b in a b; do
		f=; [ -s "$b" ] && f=filled
		[ "$(cat active)" = $b ] && f="$f active"
		[ "$(cat next)" = $b ] && f="$f next"
		printf '%s\t%s\t%s\n' $b "$(head -n1 $b 2>/dev/null)" "$f"
	done;;
write)
	grep -q junk "$3" && { echo "not for this board" >&2; exit 10; }
	cp "$3" "$2.new" && mv "$2.new" "$2";;
boot) [ "$2" = broken ] && { echo "no such bank" >&2; exit 1; }; echo "$2" >next;;
hang) sleep 60;;
*) exit 2;;
esac
`

func TestHook(t *testing.T) {
	program := filepath.Join(t.TempDir(), "banks")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(program, platform)
	if err := os.Mkdir(program+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a": "1.0\n", "active": "a", "next": "a"} {
		write(filepath.Join(program+".d", name), text)
	}
	h, err := NewHook([]string{"/bin/sh", program})
	if err != nil {
		t.Fatal(err)
	}
	l, err := h.Layout(t.Context())
	if err != nil || l.check() != nil || l.Active != "a" || l.Next != "a" || l.BootID == "" || len(l.Banks) != 2 ||
		l.Banks[0] != (Bank{"a", "1.0", true}) || l.Banks[1] != (Bank{"b", "", false}) {
		t.Fatalf("%+v %v", l, err)
	}
	image := filepath.Join(t.TempDir(), "image")
	write(image, "junk")
	if err := h.Write(t.Context(), "b", image); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "not for this board") {
		t.Errorf("junk: %v", err)
	}
	write(image, "2.0\n")
	if err := errors.Join(h.Write(t.Context(), "b", image), h.SetNext(t.Context(), "b")); err != nil {
		t.Fatal(err)
	}
	if l, err = h.Layout(t.Context()); err != nil || l.Next != "b" || l.Active != "a" || l.Banks[1] != (Bank{"b", "2.0", true}) {
		t.Errorf("%+v %v", l, err)
	}
	if err := h.SetNext(t.Context(), "broken"); err == nil || errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "no such bank") {
		t.Errorf("a failure: %v", err)
	}
	if _, err := h.run(t.Context(), 100*time.Millisecond, "hang"); err == nil { // with a context that never ends
		t.Error("a program that hangs is waited for")
	}
	if _, err := NewHook(nil); err == nil {
		t.Error("no program is none")
	}

	// The agent starts again while the device has not: that is no verdict on the new image.
	dir := t.TempDir()
	o := newRig(t, nil).o
	o.Dir, o.Banks = dir, h
	if err := h.SetNext(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	m, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.switchTo(t.Context(), "", "b"); err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.s.Trial == nil || again.s.Banks["b"].Status != available || !again.Pending() {
		t.Errorf("after a start of the agent only: %+v", again.s)
	}
}

func TestLayoutsThatAreNone(t *testing.T) {
	b := Bank{Name: "a"}
	for _, l := range []Layout{{}, {Banks: []Bank{b, b}, Active: "a", Next: "a"}, {Banks: []Bank{b}}, {Banks: []Bank{{}}, Active: ""}, {Banks: []Bank{b}, Active: "a", Next: "b"},
		{Banks: make([]Bank, maxBanks+1)}, {Banks: []Bank{{Name: "a", Version: strings.Repeat("x", 65)}}, Active: "a", Next: "a"}} {
		if l.check() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

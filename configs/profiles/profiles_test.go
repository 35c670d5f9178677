package profiles

import (
	"strings"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
)

func TestBuiltInProfilesLoad(t *testing.T) {
	if len(Names()) != 3 {
		t.Fatalf("built-in profiles: %v", Names())
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			p, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Name != name {
				t.Errorf("profile %s calls itself %q", name, p.Name)
			}
			s, err := tr181.Load(p)
			if err != nil {
				t.Fatal(err)
			}
			objects, params := 0, 0
			s.Root().Walk(func(o *datamodel.Object) bool {
				objects++
				params += len(o.Params)
				return true
			})
			t.Logf("%d objects, %d parameters", objects, params)
		})
	}
}

func TestLoadNamesTheMissingProfile(t *testing.T) {
	_, err := Load("router")
	if err == nil || !strings.Contains(err.Error(), `"router"`) || !strings.Contains(err.Error(), "gateway") {
		t.Fatalf("error %v", err)
	}
	if _, err := Load("./nowhere.toml"); err == nil || !strings.Contains(err.Error(), "nowhere.toml") {
		t.Fatalf("error %v", err)
	}
}

package admit

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSamples keeps the shipped manifests free of problems and warnings.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		warnings, problems := Check("one")(parse(t, string(text)))
		if len(warnings)+len(problems) > 0 {
			t.Errorf("%s: %v %v", path, warnings, problems)
		}
	}
}

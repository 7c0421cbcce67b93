package hook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	hook, bin, conf := filepath.Join(dir, "hook"), filepath.Join(dir, "bin"), filepath.Join(dir, "net.d")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := func() {
		t.Helper()
		if err := Install(hook, bin, conf, "/run/x/net.sock"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	installed, loopback, list := filepath.Join(bin, "pinnace-cni"), filepath.Join(bin, "loopback"), filepath.Join(conf, "00-pinnace.conflist")
	write(hook, "one")
	install()
	if read(installed) != "one" || read(loopback) != "one" || read(list) != string(Conflist("/run/x/net.sock")) {
		t.Error("installed something else")
	}
	if info, err := os.Stat(installed); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("hook has mode %v, %v", info.Mode(), err)
	}
	past := time.Unix(1, 0)
	for _, path := range []string{installed, list} {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	install()
	for _, path := range []string{installed, list} {
		if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(past) {
			t.Errorf("%s was written again without need: %v", path, err)
		}
	}
	write(hook, "two")
	write(list, "spoiled")
	install()
	if read(installed) != "two" || read(loopback) != "two" || read(list) != string(Conflist("/run/x/net.sock")) {
		t.Error("the upgrade is not whole")
	}
	write(filepath.Join(conf, "10-theirs.conflist"), "theirs")
	for range 2 {
		if err := Uninstall(bin, conf); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], "10-theirs.conflist") {
		t.Errorf("left %v, %v", left, err)
	}
	write(loopback, "theirs")
	install()
	if read(loopback) != "theirs" {
		t.Error("replaced a loopback plugin of somebody else")
	}
	if err := Uninstall(bin, conf); err != nil || read(loopback) != "theirs" {
		t.Errorf("removed a loopback plugin of somebody else: %v", err)
	}
}

func TestConflist(t *testing.T) {
	var list struct {
		CNIVersion, Name string
		Plugins          []struct{ Type, Socket string }
	}
	if err := json.Unmarshal(Conflist("/run/x/net.sock"), &list); err != nil {
		t.Fatal(err)
	}
	if list.CNIVersion != "1.0.0" || len(list.Plugins) != 1 || list.Plugins[0].Type != "pinnace-cni" || list.Plugins[0].Socket != "/run/x/net.sock" {
		t.Errorf("%+v", list)
	}
}

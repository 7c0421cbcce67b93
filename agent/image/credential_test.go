package image

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	hosts := []string{
		"https://index.docker.io/v1/", "localhost:5000", "http://plain.example/v2/", "https://r.example/team/",
		"r.example", "r.example/team/app", "*.example.org", "exact.example.org", "*.example.org:8443", "[::1]:5000",
	}
	var auths []string
	for _, h := range hosts {
		auths = append(auths, fmt.Sprintf(`%q:{"username":%q,"password":"p"}`, h, h))
	}
	keys, err := parseCredentials([]byte(`{"auths":{` + strings.Join(auths, ",") + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"busybox:1":                           "https://index.docker.io/v1/",
		"docker.io/library/busybox":           "https://index.docker.io/v1/",
		"team/app":                            "https://index.docker.io/v1/",
		"localhost:5000/a":                    "localhost:5000",
		"localhost:5001/a":                    "",
		"localhost/a":                         "",
		"plain.example/a":                     "http://plain.example/v2/",
		"r.example/other:1":                   "r.example",
		"r.example/team/other:1":              "https://r.example/team/",
		"r.example/team/app@sha256:" + digest: "r.example/team/app",
		"r.example/team/app/sub":              "r.example/team/app",
		"r.example/teamwork":                  "r.example",
		"a.example.org/x":                     "*.example.org",
		"exact.example.org/x":                 "exact.example.org",
		"a.b.example.org/x":                   "",
		"example.org/x":                       "",
		"a.example.org:8443/x":                "*.example.org:8443",
		"a.example.org:9443/x":                "",
		"[::1]:5000/x":                        "[::1]:5000",
		"[::2]:5000/x":                        "",
	} {
		if got := match(keys, ref).GetUsername(); got != want {
			t.Errorf("%s: credentials of %q, want %q", ref, got, want)
		}
	}
}

func TestParseCredentials(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		entry, user, password, identity, registry string
	}{
		{`{"username":"u","password":"p"}`, "u", "p", "", ""},
		{`{"auth":"` + b64([]byte("u:p:q")) + `"}`, "u", "p:q", "", ""},
		{`{"auth":"` + strings.TrimRight(b64([]byte("u:pp")), "=") + `"}`, "u", "pp", "", ""},
		{`{"auth":"` + b64([]byte("u:p")) + `","username":"other"}`, "u", "p", "", ""},
		{`{"auth":"` + b64([]byte("<token>:")) + `","identitytoken":"t"}`, "", "", "t", ""},
		{`{"registrytoken":"t","email":"x"}`, "", "", "", "t"},
	} {
		keys, err := parseCredentials([]byte(`{"auths":{"r.example":` + c.entry + `},"HttpHeaders":{}}`))
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: %v, %v", c.entry, keys, err)
			continue
		}
		a := keys[0].auth
		if a.Username != c.user || a.Password != c.password || a.IdentityToken != c.identity || a.RegistryToken != c.registry {
			t.Errorf("%s: %v", c.entry, a)
		}
	}

	const text = `{"credsStore":"keychain","auths":{
		"good.example":{"username":"u","password":"p"},
		"bad.example":{"auth":"c2VjcmV0"}, "worse.example":{"auth":"%secret%"}, "none.example":{}, "https:///x":{"password":"secret"}}}`
	keys, err := parseCredentials([]byte(text))
	if len(keys) != 1 || keys[0].host != "good.example" {
		t.Errorf("entries kept: %v", keys)
	}
	for _, w := range []string{"bad.example", "not user:password", "worse.example", "not base64", "none.example", "holds no credentials", "names no host", "credential helpers"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v does not say %q", err, w)
		}
	}
	for _, bad := range []string{text, `{"auths":{"r":{"auth":"secret`, `{"auths":"secret"}`, `{"auths":{"r":{"auth":{"secret":1}}}}`} {
		if _, err := parseCredentials([]byte(bad)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v, want one without what may be a secret", err)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auths":{"r.example/x":{"auth":"dTpw"}}}`), "r.example/x/y:1")
	f.Add([]byte(`{"auths":{"*.[":{"username":"u"}}}`), "a.b/c")
	f.Add([]byte(`{"auths":{"[::1]:5":{"identitytoken":"t"}}}`), "[::1]:5/c")
	f.Fuzz(func(t *testing.T, raw []byte, ref string) {
		keys, _ := parseCredentials(raw)
		if auth := match(keys, ref); auth != nil && auth.Username == "" && auth.Password == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
			t.Error("credentials without content")
		}
	})
}

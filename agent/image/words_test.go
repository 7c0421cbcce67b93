package image

import (
	"errors"
	"testing"
)

func TestWords(t *testing.T) {
	const ref = "r.example:5000/team/app:v1"
	const head = `rpc error: code = Unknown desc = failed to pull and unpack image "` + ref + `": failed to resolve reference "` + ref + `": `
	for from, want := range map[string]string{
		head + ref + ": not found": "not found",
		head + `failed to do request: Head "https://r.example:5000/v2/team/app/manifests/v1": dial tcp: lookup r.example: no such host`:               `Head "https://r.example:5000/v2/team/app/manifests/v1": dial tcp: lookup r.example: no such host`,
		head + "pulling from host r.example:5000 failed with status code [manifests v1]: 401 Unauthorized":                                            "pulling from host r.example:5000 failed with status code [manifests v1]: 401 Unauthorized",
		head + "failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden":                                               "unexpected status: 403 Forbidden",
		head + "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed": "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
		"pull image " + ref + ": " + head[len("rpc error: code = Unknown desc = "):] + ref + ": not found":                                            "not found",
		`failed to pull and unpack image "` + ref + `": failed to copy: httpReadSeeker: failed open: content at https://x not found: not found`:       "httpReadSeeker: failed open: content at https://x not found: not found",
		"rpc error: code = DeadlineExceeded desc = context deadline exceeded":                                                                         "context deadline exceeded",
		"no space left on device": "no space left on device",
		"":                        "",
	} {
		if got := cause(ref, errors.New(from)); got != want {
			t.Errorf("%s\n got %s\nwant %s", from, got, want)
		}
	}

	unavailable := errors.New("pull image " + ref + ": RegistryUnavailable: try again at noon")
	e := pullError("team/app", ref, unavailable, "")
	if e.Reason != RegistryUnavailable || e.Message != `pull image "team/app": the registry is unavailable: try again at noon` {
		t.Errorf("%s: %s", e.Reason, e.Message)
	}
}

func FuzzCause(f *testing.F) {
	f.Add("a:1", `rpc error: code = Unknown desc = failed to pull image "a:1": x`)
	f.Add("", ": : ")
	f.Fuzz(func(t *testing.T, ref, text string) {
		if got := cause(ref, errors.New(text)); len(got) > len(text) {
			t.Errorf("%q became %q", text, got)
		}
	})
}

package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// part is one entry of an archive that a test packs.
type part struct{ name, data, link string }

func pack(parts ...part) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range parts {
		h := &tar.Header{Name: p.name, Mode: 0o644, Size: int64(len(p.data)), Typeflag: tar.TypeReg}
		if p.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, p.link
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(w, p.data)
	}
	w.Close()
	return buf.Bytes()
}

func zip(raw []byte) string {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(raw)
	w.Close()
	return buf.String()
}

func config(arch string, diffs ...string) string {
	quoted, _ := json.Marshal(append([]string{}, diffs...))
	return fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":%s}}`, arch, quoted)
}

// saved is a docker save as docker before 25 wrote it: plain layers.
func saved(layer string) []byte {
	cfg := config(runtime.GOARCH, sum([]byte(layer)), sum([]byte(layer)))
	return pack(
		part{name: "c.json", data: cfg},
		part{name: "aa/layer.tar", data: layer},
		part{name: "bb/layer.tar", link: "../aa/layer.tar"},
		part{name: "manifest.json", data: `[{"Config":"c.json","RepoTags":["ships","host.example/x/y:2"],"Layers":["aa/layer.tar","bb/layer.tar"]}]`},
	)
}

// laid is an OCI layout: an index in the index, with the image for another
// machine first.
func laid(name string) []byte {
	blob := func(s string) part { return part{name: "blobs/sha256/" + sum([]byte(s))[len("sha256:"):], data: s} }
	desc := func(media, s, more string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, media, sum([]byte(s)), len(s), more)
	}
	layer := zip([]byte("layer"))
	cfg := config(runtime.GOARCH, "sha256:of-the-unpacked")
	man := `{"schemaVersion":2,"config":` + desc(mediaConfig, cfg, "") + `,"layers":[` + desc(mediaLayer+"+gzip", layer, "") + `]}`
	other := "{}"
	idx := `{"manifests":[` + desc(mediaManifest, other, `,"platform":{"os":"plan9","architecture":"none"}`) + "," +
		desc(mediaManifest, man, `,"platform":{"os":"linux","architecture":"`+runtime.GOARCH+`"}`) + `]}`
	return pack(blob(layer), blob(cfg), blob(man), blob(other), blob(idx),
		part{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`},
		part{name: "./index.json", data: `{"manifests":[` + desc(mediaIndex, idx, `,"annotations":{"`+refAnnotation+`":"`+name+`"}`) + "," + desc(mediaManifest, other, "") + `]}`})
}

// images opens raw as a file would be.
func images(t testing.TB, raw []byte) ([]Image, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := Open(file, dir)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { a.Close() })
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files in the scratch folder, %v", len(left), err)
	}
	return a.Images()
}

// check reads every blob that is computed here through and compares it.
func check(t testing.TB, b Blob) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(b.Content, 0, 1<<40))
	if err != nil || n != b.Size || digest(h) != b.Digest {
		t.Errorf("blob %s has %d bytes of %s (%d were told): %v", b.Digest, n, digest(h), b.Size, err)
	}
}

func TestDockerSave(t *testing.T) {
	for name, raw := range map[string][]byte{"plain": saved("layer"), "gzipped": []byte(zip(saved("layer")))} {
		t.Run(name, func(t *testing.T) {
			all, err := images(t, raw)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != 1 || !slices.Equal(all[0].Names, []string{"docker.io/library/ships:latest", "host.example/x/y:2"}) {
				t.Fatalf("got %+v", all)
			}
			img := all[0]
			for _, b := range img.Blobs {
				check(t, b)
			}
			if len(img.Layers()) != 2 || img.Layers()[1].Digest != sum([]byte("layer")) || img.Layers()[0].MediaType != mediaLayer {
				t.Errorf("layers %+v", img.Layers())
			}
			text, _ := io.ReadAll(io.NewSectionReader(img.Manifest().Content, 0, img.Manifest().Size))
			var m manifest
			if err := json.Unmarshal(text, &m); err != nil || m.Config.Digest != img.Config().Digest || m.Layers[0].Size != 5 {
				t.Errorf("manifest %s: %v", text, err)
			}
		})
	}
}

func TestLayout(t *testing.T) {
	all, err := images(t, laid("ships:3"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !slices.Equal(all[0].Names, []string{"docker.io/library/ships:3"}) || len(all[0].Layers()) != 1 {
		t.Fatalf("got %+v", all)
	}
	for _, b := range all[0].Blobs {
		check(t, b)
	}
}

func TestRefused(t *testing.T) {
	whole := saved(strings.Repeat("layer", 1000))
	layer := "x"
	man := part{name: "manifest.json", data: `[{"Config":"c","RepoTags":["a"],"Layers":["l"]}]`}
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":             {nil, "no file in it"},
		"garbage":           {bytes.Repeat([]byte("garbage "), 100), "read tar"},
		"cut in a layer":    {whole[:2500], "cut off"},
		"cut gzip":          {[]byte(zip(whole)[:90]), "unpack gzip"},
		"another tar":       {pack(part{name: "readme", data: "x"}), "neither a docker save nor an OCI layout"},
		"no name":           {pack(part{name: "manifest.json", data: `[{"Config":"c","Layers":[]}]`}), "has no name"},
		"bad name":          {pack(part{name: "manifest.json", data: `[{"RepoTags":["UPPER"]}]`}), "UPPER"},
		"no image":          {pack(part{name: "manifest.json", data: `[]`}), "no image in it"},
		"layer missing":     {pack(man, part{name: "c", data: config(runtime.GOARCH, sum([]byte(layer)))}), "read l: not in the archive"},
		"layer is another":  {pack(man, part{name: "c", data: config(runtime.GOARCH, sum([]byte("y")))}, part{name: "l", data: layer}), "wants sha256:"},
		"layers miscounted": {pack(man, part{name: "c", data: config(runtime.GOARCH)}, part{name: "l", data: layer}), "it names 0 layers, manifest.json 1"},
		"another machine":   {pack(man, part{name: "c", data: config("vax")}), "linux/vax"},
		"no JSON":           {pack(part{name: "manifest.json", data: `[{`}), "read manifest.json"},
		"link to a link":    {pack(part{name: "manifest.json", link: "a"}, part{name: "a", link: "manifest.json"}), "not in the archive"},
		"tag alone":         {laid("latest"), "full name"},
		"document too big":  {pack(part{name: "manifest.json", data: strings.Repeat(" ", documentLimit+1)}), "too many"},
		"config spoilt":     {bytes.Replace(laid("a:1"), []byte(`"os":"linux","architecture":"`+runtime.GOARCH+`","rootfs"`), []byte(`"os":"linuX","architecture":"`+runtime.GOARCH+`","rootfs"`), 1), "not what its name says"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := images(t, tc.raw)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v; want an error with %q", got, err, tc.want)
			}
		})
	}
}

// memory is a tar in memory, for the fuzzer.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// FuzzArchive: no file makes the reader fall over, and what it hands out has
// names, and digests that hold wherever it computed or checked them.
func FuzzArchive(f *testing.F) {
	f.Add(saved("layer"))
	f.Add(laid("a:1"))
	f.Add(saved("layer")[:2000])
	f.Add(pack(part{name: "index.json", data: `{"manifests":[{}]}`}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := read(memory{bytes.NewReader(raw)})
		if err != nil {
			return
		}
		all, err := a.Images()
		if err != nil {
			return
		}
		for _, img := range all {
			if len(img.Names) == 0 || len(img.Blobs) < 2 {
				t.Fatalf("an image without names or blobs: %+v", img)
			}
			check(t, img.Config())
			check(t, img.Manifest())
			for _, l := range img.Layers() {
				if l.Size < 0 || l.Content == nil {
					t.Errorf("layer %+v", l)
				}
			}
		}
	})
}

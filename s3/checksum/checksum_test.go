package checksum

import (
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sum(a Algorithm, data []byte) string {
	h := a.New()
	h.Write(data)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// The catalogued check values of the CRCs, for "123456789".
func TestCheckValues(t *testing.T) {
	for a, want := range map[Algorithm]string{
		CRC32:     "y/Q5Jg==",     // cbf43926
		CRC32C:    "4waSgw==",     // e3069283
		CRC64NVME: "rosUhgp5mIg=", // ae8b14860a799888
	} {
		if got := sum(a, []byte("123456789")); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

func TestFullIsTheWhole(t *testing.T) {
	for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME} {
		rapid.Check(t, func(t *rapid.T) {
			pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 8).Draw(t, "pieces")
			var all []byte
			var parts []Part
			for _, p := range pieces {
				all = append(all, p...)
				parts = append(parts, Part{sum(a, p), int64(len(p))})
			}
			got, ok := a.Full(parts)
			if !ok || got != sum(a, all) {
				t.Fatalf("%s: %q, want %q", a, got, sum(a, all))
			}
		})
	}
}

func TestComposite(t *testing.T) {
	for _, a := range All() {
		x, y := sum(a, []byte("x")), sum(a, []byte("y"))
		bx, _ := base64.StdEncoding.DecodeString(x)
		by, _ := base64.StdEncoding.DecodeString(y)
		got, ok := a.Composite([]Part{{x, 1}, {y, 1}})
		if want := sum(a, append(bx, by...)) + "-2"; !ok || got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
		if _, ok := a.Composite([]Part{{"", 1}}); ok {
			t.Errorf("%s: a part without a value went in", a)
		}
	}
	if _, ok := SHA256.Full(nil); ok {
		t.Error("SHA256 has no full-object form")
	}
}

func TestValidValue(t *testing.T) {
	for _, v := range []string{"", "AAAA", "AAAAAA=", "AAAAA===", "AAAAAB==", "\nAAAAA==", strings.Repeat("A", 1000)} {
		if CRC32.ValidValue(v) {
			t.Errorf("%q passed for a CRC32", v)
		}
	}
	if !CRC32.ValidValue("AAAAAA==") {
		t.Error("a good value was refused")
	}
}

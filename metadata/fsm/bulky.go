package fsm

// bulkyFrom is from how many bytes on an extent's record goes past the tree of the
// store: an extent that has a blob, or little inline data, is far shorter.
const bulkyFrom = 512

// Bulky is kv.Options.Bulky for the machine's store: inline data, which is written
// once and read with its object. All else is short, or walked over by listings, and
// stays in the tree.
func Bulky(key []byte) int {
	if key[0] == pExtent {
		return bulkyFrom
	}
	return 0
}

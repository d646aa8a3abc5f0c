//go:build plant

package plant

import (
	"os"
	"sync"
)

var planted = sync.OnceValue(func() Bug { return Bug(os.Getenv("TWOFOLD_PLANT")) })

// Is reports whether b is planted in this process.
func Is(b Bug) bool { return planted() == b }

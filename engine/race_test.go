//go:build race

package engine

// raceEnabled: under the race detector a sync.Pool forgets at random.
const raceEnabled = true

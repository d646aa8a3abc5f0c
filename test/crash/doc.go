// Package crash kills, cuts the power of, breaks and refills the real program under
// load on both views, and holds what is there afterwards against what was
// acknowledged.
//
// The oracle. Every worker owns a directory and works in it through S3 and the
// mount, one operation after the other, and keeps a model of it (world). An
// operation that was answered changes the model; one of unknown outcome doubles it:
// it happened, or not. An unsynced write changes what has to be seen as long as the
// mount lives, and may be undone by the mount's death up to the last fsync, or up to
// what S3 showed of it. So at any moment a worker has a short list of states that
// are right, and reading its directory (LIST, HEAD and GET, or readdir, stat and
// read) has to show exactly one of them. Names that several workers write are
// registers: what is read has to be a value that no later acknowledged one replaced.
//
// Every byte written says by which write it came, and for which offset (content), so
// torn and mixed content is recognised, and can be explained.
//
// The tests: kill_test.go kills processes, power_test.go cuts the power of all
// drives, fault_test.go breaks drives, drives_test.go loses and replaces them. The
// short form runs by default; scripts/crash-campaign runs the long one.
package crash

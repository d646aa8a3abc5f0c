package fsm

import (
	"encoding/binary"
	"strings"

	"twofold"
)

// Prefixes of the key space; doc.go has the picture.
const (
	pMeta      = 'm'
	pBucket    = 'b'
	pBucketID  = 'B'
	pInode     = 'i'
	pEntry     = 'e'
	pLink      = 'h'
	pExtent    = 'x'
	pClaim     = 'r'
	pTrash     = 't'
	pOrphan    = 'O'
	pUploadKey = 'u'
	pUpload    = 'v'
	pPart      = 'p'
	pSession   = 's'
	pAcked     = 'a'
	pKept      = 'q'
	pNonce     = 'n'
	pConfig    = 'c'
	pCompact   = 'k'
	pUsage     = 'U'
	pReserve   = 'R'
	pInos      = 'I'
)

const (
	keyFormat      = "mformat"
	keyApplied     = "mapplied"
	keyNextIno     = "mino"
	keyNextBucket  = "mbucket"
	keyNextSession = "msession"
	keyUsage       = "musage"
)

func be64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func num(prefix byte, n uint64) string {
	var b [9]byte
	b[0] = prefix
	binary.BigEndian.PutUint64(b[1:], n)
	return string(b[:])
}

func num2(prefix byte, n, m uint64) string {
	var b [17]byte
	b[0] = prefix
	binary.BigEndian.PutUint64(b[1:], n)
	binary.BigEndian.PutUint64(b[9:], m)
	return string(b[:])
}

func id16(prefix byte, id [16]byte) string {
	var b [17]byte
	b[0] = prefix
	copy(b[1:], id[:])
	return string(b[:])
}

func bucketKey(n twofold.BucketName) string  { return string(rune(pBucket)) + string(n) }
func bucketIDKey(id twofold.BucketID) string { return num(pBucketID, uint64(id)) }
func inodeKey(i twofold.Ino) string          { return num(pInode, uint64(i)) }
func orphanKey(i twofold.Ino) string         { return num(pOrphan, uint64(i)) }
func sessionKey(s twofold.SessionID) string  { return num(pSession, uint64(s)) }
func ackedKey(s twofold.SessionID) string    { return num(pAcked, uint64(s)) }
func nonceKey(n twofold.UUID) string         { return id16(pNonce, n) }
func trashKey(b twofold.BlobID) string       { return id16(pTrash, b) }
func uploadKey(u twofold.UploadID) string    { return id16(pUpload, u) }
func compactKey(i twofold.Ino) string        { return num(pCompact, uint64(i)) }
func usageKey(b twofold.BucketID) string     { return num(pUsage, uint64(b)) }
func reserveKey(i twofold.Ino) string        { return num(pReserve, uint64(i)) }
func inosKey(s twofold.SessionID) string     { return num(pInos, uint64(s)) }
func configKey(name string) string           { return string(rune(pConfig)) + name }

// sessionIn is the session of one of its keys.
func sessionIn(key []byte) twofold.SessionID {
	return twofold.SessionID(binary.BigEndian.Uint64(key[1:]))
}

func keptKey(s twofold.SessionID, seq uint64) string { return num2(pKept, uint64(s), seq) }

func extentKey(i twofold.Ino, end int64) string { return num2(pExtent, uint64(i), uint64(end)) }

// entrySuffix is a name as it stands in an entry's key.
func entrySuffix(comp string, dir bool) string {
	if dir {
		return comp + "/"
	}
	return comp
}

func entryKey(dir twofold.Ino, suffix string) string { return num(pEntry, uint64(dir)) + suffix }

func linkKey(i, dir twofold.Ino, comp string) string {
	return num2(pLink, uint64(i), uint64(dir)) + comp
}

func inodeClaim(b twofold.BlobID, i twofold.Ino) string {
	return string(be64(append([]byte(id16(pClaim, b)), 'i'), uint64(i)))
}

func partClaim(b twofold.BlobID, u twofold.UploadID, n int) string {
	k := append(append([]byte(id16(pClaim, b)), 'p'), u[:]...)
	return string(binary.BigEndian.AppendUint32(k, uint32(n)))
}

func partKey(u twofold.UploadID, n int) string {
	return string(binary.BigEndian.AppendUint32([]byte(id16(pPart, u)), uint32(n)))
}

// uploadKeyPrefix is the key of a bucket's uploads of one key, without their ids.
// The escape keeps the order of keys, whatever bytes they have.
func uploadKeyPrefix(b twofold.BucketID, k twofold.Key) string {
	return num(pUploadKey, uint64(b)) + strings.ReplaceAll(string(k), "\x00", "\x00\xff") + "\x00\x01"
}

func uploadByKey(b twofold.BucketID, k twofold.Key, u twofold.UploadID) string {
	return uploadKeyPrefix(b, k) + string(u[:])
}

// prefixEnd is the first string behind all that start with p; "" where there is none.
func prefixEnd(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			return p[:i] + string([]byte{p[i] + 1})
		}
	}
	return ""
}

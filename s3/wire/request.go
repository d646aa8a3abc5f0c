package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"twofold/s3/s3err"
)

// Limits on XML from outside. A CompleteMultipartUpload of 10,000 parts with their
// SHA-256 is about 2.5 MB.
const (
	MaxBody  = 4 << 20 // bytes of any XML body
	maxDepth = 8       // elements within elements
)

// MaxDelete is the most keys of one DeleteObjects, as AWS documents.
const MaxDelete = 1000

// Delete is the body of DeleteObjects.
type Delete struct {
	Quiet   bool
	Objects []DeleteKey
}

// DeleteKey is one key to delete.
type DeleteKey struct {
	Key       string
	VersionID string
	ETag      string
}

// Part is a part as CompleteMultipartUpload lists it.
type Part struct {
	Number    int
	ETag      string
	Checksums map[string]string // by algorithm; nil: none
}

var errStructure = errors.New("wire: not the expected elements")

func malformed(err error) error {
	if e := s3err.As(err); e != nil {
		return e
	}
	return s3err.Wrap(s3err.MalformedXML, err)
}

// leaf is called with each element that has no elements inside: its path below
// the root ("Object/Key"), and its text. open is called where an element begins.
type visitor struct {
	open func(path string) error
	leaf func(path, text string) error
}

// walk reads one document whose root is root, strictly, within the limits.
func walk(body []byte, root string, v visitor) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	var path []string
	var text strings.Builder
	inner, done := false, false
	for {
		tok, err := d.Token()
		if err == io.EOF && done {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if done || len(path) >= maxDepth || len(path) == 0 && t.Name.Local != root {
				return errStructure
			}
			path = append(path, t.Name.Local)
			text.Reset()
			inner = false
			if v.open != nil && len(path) > 1 {
				if err := v.open(strings.Join(path[1:], "/")); err != nil {
					return err
				}
			}
		case xml.EndElement:
			if !inner && len(path) > 1 {
				if err := v.leaf(strings.Join(path[1:], "/"), text.String()); err != nil {
					return err
				}
			}
			inner = true
			path = path[:len(path)-1]
			done = len(path) == 0
		case xml.CharData:
			text.Write(t)
		case xml.Directive:
			return errStructure // no document types
		}
	}
}

// ParseDelete reads the body of DeleteObjects. MalformedXML.
func ParseDelete(body []byte) (*Delete, error) {
	var del Delete
	err := walk(body, "Delete", visitor{
		open: func(path string) error {
			if path == "Object" {
				if len(del.Objects) == MaxDelete {
					return errStructure
				}
				del.Objects = append(del.Objects, DeleteKey{})
			}
			return nil
		},
		leaf: func(path, text string) error {
			if path == "Quiet" {
				q, err := strconv.ParseBool(strings.TrimSpace(text))
				del.Quiet = q
				return err
			}
			name, ok := strings.CutPrefix(path, "Object/")
			if !ok {
				return nil
			}
			o := &del.Objects[len(del.Objects)-1]
			switch name {
			case "Key":
				o.Key = text
			case "VersionId":
				o.VersionID = text
			case "ETag":
				o.ETag = text
			case "LastModifiedTime", "Size":
				// Conditions of directory buckets: ignoring one could delete too much.
				return s3err.New(s3err.NotImplemented)
			}
			return nil
		},
	})
	if err == nil && len(del.Objects) == 0 {
		err = errStructure
	}
	for _, o := range del.Objects {
		if err == nil && o.Key == "" {
			err = s3err.Msg(s3err.MalformedXML, "")
		}
	}
	if err != nil {
		return nil, malformed(err)
	}
	return &del, nil
}

// ParseComplete reads the body of CompleteMultipartUpload, with at most max parts.
// MalformedXML.
func ParseComplete(body []byte, max int) ([]Part, error) {
	var parts []Part
	err := walk(body, "CompleteMultipartUpload", visitor{
		open: func(path string) error {
			if path == "Part" {
				if len(parts) == max {
					return errStructure
				}
				parts = append(parts, Part{})
			}
			return nil
		},
		leaf: func(path, text string) (err error) {
			name, ok := strings.CutPrefix(path, "Part/")
			if !ok {
				return nil
			}
			p := &parts[len(parts)-1]
			switch text = strings.TrimSpace(text); name {
			case "PartNumber":
				p.Number, err = strconv.Atoi(text)
			case "ETag":
				p.ETag = text
			default:
				if algo, ok := strings.CutPrefix(name, "Checksum"); ok {
					if p.Checksums == nil {
						p.Checksums = make(map[string]string, 1)
					}
					p.Checksums[algo] = text
				}
			}
			return err
		},
	})
	if err == nil && len(parts) == 0 {
		err = errStructure
	}
	for _, p := range parts {
		if err == nil && (p.Number == 0 || p.ETag == "") {
			err = errStructure
		}
	}
	if err != nil {
		return nil, malformed(err)
	}
	return parts, nil
}

// BucketConfig is the body of CreateBucket.
type BucketConfig struct {
	Location string
	Other    bool // it asks for something beyond a location
}

// ParseBucketConfig reads the body of CreateBucket, which may be empty.
func ParseBucketConfig(body []byte) (cfg BucketConfig, err error) {
	if len(body) == 0 {
		return cfg, nil
	}
	err = walk(body, "CreateBucketConfiguration", visitor{leaf: func(path, text string) error {
		if path == "LocationConstraint" {
			cfg.Location = strings.TrimSpace(text)
		} else {
			cfg.Other = true
		}
		return nil
	}})
	if err != nil {
		return cfg, malformed(err)
	}
	return cfg, nil
}

package history

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// opTimeout bounds one S3 request; one without an answer by then has an unknown outcome.
const opTimeout = 90 * time.Second

// s3Client is one client of S3. It does one operation after the other.
type s3Client struct {
	*round
	id  int
	rng *rand.Rand
	s3  *s3.Client

	// What it saw last of some key, for If-Match.
	key  string
	etag string
	data content

	refused bool // the server was not there
	// wary: a change has no known outcome, and nothing was answered since. Each such
	// change may be anywhere in the history, and many make it undecidable.
	wary bool
}

// step does one operation. It reports whether the server was there.
func (c *s3Client) step() bool {
	c.refused = false
	c.some()
	return !c.refused
}

func (c *s3Client) some() {
	key := c.someKey(c.rng)
	switch n := c.rng.IntN(100); {
	case c.wary:
		c.get(key, false)
	case n < 22:
		c.put(&Op{Kind: Put, Key: key})
	case n < 27:
		c.put(&Op{Kind: Put, Key: key, Flag: true})
	case n < 37:
		c.replace(key)
	case n < 60:
		c.get(key, false)
	case n < 65:
		c.get(key, true)
	case n < 72:
		c.head(key)
	case n < 80:
		c.remove(key)
	case n < 88:
		c.list()
	case n < 94:
		c.copy(key)
	case n < 97:
		c.multipart(key)
	default:
		if len(c.dirs) > 0 {
			c.put(&Op{Kind: Put, Key: c.dirs[c.rng.IntN(len(c.dirs))] + "/"})
		}
	}
}

// outcome is the answer of an error: nil where there is none, or where the request
// certainly did nothing.
func (c *s3Client) outcome(err error) *Out {
	var e interface{ HTTPStatusCode() int }
	status := 0
	if errors.As(err, &e) {
		status = e.HTTPStatusCode()
	}
	switch status {
	case 404:
		return &Out{Err: "NoSuchKey"}
	case 412:
		return &Out{Err: "PreconditionFailed"}
	case 416:
		return &Out{Err: "InvalidRange"}
	case 409: // somebody else's request came between, says S3: try again
		return nil
	}
	if status != 0 && status < 500 {
		return &Out{Err: err.Error()}
	}
	if !c.faulty {
		c.rec.odd(fmt.Sprintf("S3: %v", err))
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		c.refused = true
		return nil
	}
	return &Out{Unknown: true, Err: err.Error()}
}

func (c *s3Client) do(op *Op, fn func(context.Context) (*Out, error)) *Out {
	op.View = S3View
	out := c.rec.do(c.id, op, func() *Out {
		patience := opTimeout
		if c.fault != nil && c.fault.impatient && c.rng.IntN(8) == 0 {
			patience = time.Duration(c.rng.IntN(8000)) * time.Microsecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := fn(ctx)
		if err != nil {
			return c.outcome(err)
		}
		return out
	})
	if out != nil {
		c.wary = out.Unknown
	}
	return out
}

// somePut makes the content of an upload.
func (c *s3Client) somePut(op *Op) {
	if strings.HasSuffix(op.Key, "/") {
		return
	}
	token := c.rec.newToken()
	n := c.rng.IntN(maxCells + 1)
	if op.Key == mapped {
		n = mappedCells
	}
	op.Data, op.Meta = fill(token, n), token
}

func meta(op *Op) map[string]string {
	if op.Meta == 0 {
		return nil
	}
	return map[string]string{"t": strconv.Itoa(int(op.Meta))}
}

func metaOf(m map[string]string) uint32 {
	n, _ := strconv.ParseUint(m["t"], 10, 32)
	return uint32(n)
}

func (c *s3Client) put(op *Op) *Out {
	c.somePut(op)
	in := &s3.PutObjectInput{Bucket: &c.bucket, Key: &op.Key, Body: bytes.NewReader(op.Data.render(c.cell)), Metadata: meta(op)}
	if op.Flag {
		in.IfNoneMatch = aws.String("*")
	}
	if op.IfETag != "" {
		in.IfMatch = &op.IfETag
	}
	return c.do(op, func(ctx context.Context) (*Out, error) {
		out, err := c.s3.PutObject(ctx, in)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(op.Key, "/") {
			return &Out{}, nil
		}
		return &Out{ETag: aws.ToString(out.ETag)}, nil
	})
}

// replace reads a key and puts something else if it is still what was read; or goes by
// what it read some time ago.
func (c *s3Client) replace(key string) {
	if c.etag == "" || c.rng.IntN(3) > 0 {
		c.get(key, false)
	}
	if c.etag != "" {
		c.put(&Op{Kind: Put, Key: c.key, IfETag: c.etag, IfData: c.data})
	}
}

func (c *s3Client) get(key string, part bool) {
	op := &Op{Kind: Get, Key: key}
	in := &s3.GetObjectInput{Bucket: &c.bucket, Key: &op.Key}
	if part {
		op.Off, op.Len = c.rng.IntN(maxCells), 1+c.rng.IntN(maxCells)
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", op.Off*c.cell, (op.Off+op.Len)*c.cell-1))
	}
	out := c.do(op, func(ctx context.Context) (*Out, error) {
		res, err := c.s3.GetObject(ctx, in)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		out := &Out{ETag: aws.ToString(res.ETag), Meta: metaOf(res.Metadata)}
		size := int64(len(b))
		if part {
			_, total, _ := strings.Cut(aws.ToString(res.ContentRange), "/")
			size, _ = strconv.ParseInt(total, 10, 64)
		}
		if out.Data, err = parse(b, c.cell); err != nil {
			out.Torn = err.Error()
		} else if size%int64(c.cell) != 0 {
			out.Torn = fmt.Sprintf("%d bytes in all", size)
		}
		out.Size = int(size) / c.cell
		return out, nil
	})
	if out != nil && out.Err == "" && !part && key != mapped {
		c.key, c.etag, c.data = key, out.ETag, out.Data
	}
}

func (c *s3Client) head(key string) {
	op := &Op{Kind: Head, Key: key}
	c.do(op, func(ctx context.Context) (*Out, error) {
		res, err := c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.bucket, Key: &op.Key})
		if err != nil {
			return nil, err
		}
		size := aws.ToInt64(res.ContentLength)
		out := &Out{ETag: aws.ToString(res.ETag), Meta: metaOf(res.Metadata), Size: int(size) / c.cell}
		if size%int64(c.cell) != 0 {
			out.Torn = fmt.Sprintf("%d bytes", size)
		}
		return out, nil
	})
}

func (c *s3Client) remove(key string) {
	if key == mapped {
		return
	}
	if len(c.dirs) > 0 && c.rng.IntN(5) == 0 {
		key = c.dirs[c.rng.IntN(len(c.dirs))] + "/"
	}
	op := &Op{Kind: Delete, Key: key}
	c.do(op, func(ctx context.Context) (*Out, error) {
		_, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.bucket, Key: &op.Key})
		return &Out{}, err
	})
}

func (c *s3Client) copy(from string) {
	op := &Op{Kind: Copy, Key: from, To: c.someKey(c.rng)}
	if op.To == from || op.To == mapped {
		return
	}
	c.do(op, func(ctx context.Context) (*Out, error) {
		res, err := c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &c.bucket, Key: &op.To, CopySource: aws.String(c.bucket + "/" + op.Key)})
		if err != nil {
			return nil, err
		}
		return &Out{ETag: aws.ToString(res.CopyObjectResult.ETag)}, nil
	})
}

// multipart uploads one part. Only its last request is an operation: the others can't
// be seen from outside.
func (c *s3Client) multipart(key string) {
	op := &Op{Kind: Complete, Key: key}
	c.somePut(op)
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	up, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.bucket, Key: &key, Metadata: meta(op)})
	if err != nil {
		return
	}
	part, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: &c.bucket, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(op.Data.render(c.cell))})
	if err != nil {
		return
	}
	c.do(op, func(ctx context.Context) (*Out, error) {
		res, err := c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &c.bucket, Key: &key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
		})
		if err != nil {
			return nil, err
		}
		return &Out{ETag: aws.ToString(res.ETag)}, nil
	})
}

func (c *s3Client) list() {
	op := &Op{Kind: List, Flag: c.rng.IntN(3) == 0}
	if len(c.dirs) > 0 && c.rng.IntN(4) == 0 {
		op.Key = c.dirs[c.rng.IntN(len(c.dirs))] + "/"
	}
	in := &s3.ListObjectsV2Input{Bucket: &c.bucket, Prefix: &op.Key}
	if op.Flag {
		in.Delimiter = aws.String("/")
	}
	c.do(op, func(ctx context.Context) (*Out, error) {
		res, err := c.s3.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, err
		}
		out := &Out{}
		for _, o := range res.Contents {
			size := aws.ToInt64(o.Size)
			if size%int64(c.cell) != 0 {
				out.Torn = fmt.Sprintf("%s has %d bytes", *o.Key, size)
			}
			l := Listed{Key: *o.Key, Size: int(size) / c.cell, ETag: aws.ToString(o.ETag)}
			if strings.HasSuffix(l.Key, "/") {
				l.ETag = ""
			}
			out.List = append(out.List, l)
		}
		for _, p := range res.CommonPrefixes {
			out.List = append(out.List, Listed{Key: *p.Prefix, Prefix: true})
		}
		slices.SortStableFunc(out.List, func(a, b Listed) int { return cmp.Compare(a.Key, b.Key) })
		return out, nil
	})
}

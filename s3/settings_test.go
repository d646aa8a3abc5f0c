package s3

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// TestGoldenSettings reads every setting of a bucket and an object that are there,
// and of ones that are not.
func TestGoldenSettings(t *testing.T) {
	_, srv := seededAt(t, func() time.Time { return goldenTime })
	var calls []call
	for name := range strings.FieldsSeq("acl accelerate cors encryption lifecycle logging notification object-lock ownershipControls policy policyStatus publicAccessBlock replication requestPayment tagging versioning website") {
		calls = append(calls, call{about: name, method: "GET", target: "/bucket?" + name})
	}
	calls = append(calls,
		call{about: "acl of an object", method: "GET", target: "/bucket/key?acl"},
		call{about: "tags of an object", method: "GET", target: "/bucket/key?tagging"},
		call{about: "no such bucket", method: "GET", target: "/nobucket?versioning"},
		call{about: "no such bucket for what is not configured", method: "GET", target: "/nobucket?cors"},
		call{about: "no such key", method: "GET", target: "/bucket/none?tagging"},
		call{about: "anonymous", method: "GET", target: "/bucket?acl", anon: true},
		call{about: "setting it", method: "PUT", target: "/bucket?versioning", body: "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"},
		call{about: "taking it away", method: "DELETE", target: "/bucket?policy"},
		call{about: "an object does not have it", method: "GET", target: "/bucket/key?retention"},
	)
	golden(t, "settings.golden", transcript(t, srv, calls))
}

// TestSettingsBySDK: a client's parser agrees.
func TestSettingsBySDK(t *testing.T) {
	_, srv := seeded(t)
	client, ctx, bucket, key := awsClient(srv), context.Background(), aws.String("bucket"), aws.String("key")
	acl, err := client.GetObjectAcl(ctx, &awss3.GetObjectAclInput{Bucket: bucket, Key: key})
	noErr(t, err)
	if len(acl.Grants) != 1 || acl.Grants[0].Permission != types.PermissionFullControl ||
		acl.Grants[0].Grantee.Type != types.TypeCanonicalUser || *acl.Grants[0].Grantee.ID != *acl.Owner.ID {
		t.Errorf("%+v", acl)
	}
	versioning, err := client.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: bucket})
	noErr(t, err)
	if versioning.Status != "" || versioning.MFADelete != "" {
		t.Errorf("%+v", versioning)
	}
	tags, err := client.GetObjectTagging(ctx, &awss3.GetObjectTaggingInput{Bucket: bucket, Key: key})
	noErr(t, err)
	if len(tags.TagSet) != 0 {
		t.Errorf("%+v", tags)
	}
	payment, err := client.GetBucketRequestPayment(ctx, &awss3.GetBucketRequestPaymentInput{Bucket: bucket})
	noErr(t, err)
	if payment.Payer != types.PayerBucketOwner {
		t.Errorf("%+v", payment)
	}
	_, err = client.GetBucketLifecycleConfiguration(ctx, &awss3.GetBucketLifecycleConfigurationInput{Bucket: bucket})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "NoSuchLifecycleConfiguration" {
		t.Error(err)
	}
}

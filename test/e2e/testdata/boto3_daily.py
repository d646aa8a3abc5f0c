"""The daily work of a program that uses boto3, beside a mount of the same buckets."""
import hashlib
import os
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, mnt, bucket = os.environ["ENDPOINT"], os.environ["MNT"], "boto3-bucket"
s3 = boto3.client("s3", endpoint_url=endpoint)
big = os.urandom(21 << 20)


def path(*names):
    return os.path.join(mnt, bucket, *names)


def read(*names):
    with open(path(*names), "rb") as f:
        return f.read()


def check(what, ok):
    assert ok, what


s3.create_bucket(Bucket=bucket)
check("mb", os.path.isdir(path()))
check("ls", bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]])

# Objects, metadata, ranges, conditions.
put = s3.put_object(Bucket=bucket, Key="a/b c.txt", Body=b"hello", Metadata={"colour": "blue"}, ContentType="text/plain")
check("etag", put["ETag"] == '"%s"' % hashlib.md5(b"hello").hexdigest())
check("put is seen", read("a", "b c.txt") == b"hello")
check("metadata is seen", os.getxattr(path("a", "b c.txt"), "user.colour") == b"blue")
os.setxattr(path("a", "b c.txt"), "user.size", b"small")
head = s3.head_object(Bucket=bucket, Key="a/b c.txt")
check("metadata", head["Metadata"] == {"colour": "blue", "size": "small"} and head["ContentType"] == "text/plain")
check("range", s3.get_object(Bucket=bucket, Key="a/b c.txt", Range="bytes=1-3")["Body"].read() == b"ell")
try:
    s3.put_object(Bucket=bucket, Key="a/b c.txt", Body=b"again", IfNoneMatch="*")
    check("If-None-Match", False)
except ClientError as e:
    check("If-None-Match", e.response["Error"]["Code"] == "PreconditionFailed")

# Parts, by the transfer manager, both ways.
with tempfile.TemporaryDirectory() as tmp:
    src, dst = os.path.join(tmp, "src"), os.path.join(tmp, "dst")
    with open(src, "wb") as f:
        f.write(big)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    s3.upload_file(src, bucket, "big", Config=parts)
    check("upload_file is seen", read("big") == big)
    with open(path("big"), "r+b") as f:
        f.seek(5 << 20)
        f.write(b"changed in the mount")
        f.flush()
        want = big[: 5 << 20] + b"changed in the mount" + big[(5 << 20) + 20 :]
        s3.download_file(bucket, "big", dst, Config=parts)
        with open(dst, "rb") as d:
            check("download_file while it is open for writing", d.read() == want)
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "big copy", Config=parts)
    check("copy", read("big copy") == want)
check("delete", s3.delete_object(Bucket=bucket, Key="big")["ResponseMetadata"]["HTTPStatusCode"] == 204)
check("delete is seen", not os.path.exists(path("big")))

# URLs that need no credentials. boto3 signs them in the old way unless told not to.
v4 = boto3.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4"))
url = v4.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b c.txt"}, ExpiresIn=60)
check("presigned GET", urllib.request.urlopen(url).read() == b"hello")
url = v4.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "by url"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(url, data=b"sent", method="PUT"))
check("presigned PUT", read("by url") == b"sent")
url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b c.txt"}, ExpiresIn=60)
try:
    urllib.request.urlopen(url)
    check("the old way is refused", False)
except urllib.error.HTTPError as e:
    check("the old way is refused, and it says what to do", e.code == 400 and b"s3v4" in e.read())

# More keys than a page.
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda i: s3.put_object(Bucket=bucket, Key="many/%04d" % i, Body=b"x"), range(1050)))
keys = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="many/") for o in p["Contents"]]
check("listing", keys == ["many/%04d" % i for i in range(1050)])
check("the same in the mount", sorted(os.listdir(path("many"))) == ["%04d" % i for i in range(1050)])
keys = [o["Key"] for p in s3.get_paginator("list_objects").paginate(Bucket=bucket) for o in p["Contents"]]
check("listing v1", len(keys) == 1053)
for i in range(0, len(keys), 1000):
    out = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys[i : i + 1000]]})
    check("delete_objects", not out.get("Errors"))
check("nothing is left", os.listdir(path()) == [])
s3.delete_bucket(Bucket=bucket)
check("rb", not os.path.exists(path()))
print("boto3", boto3.__version__, "did its work")

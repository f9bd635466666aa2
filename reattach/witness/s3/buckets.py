"""Operations on buckets, and listings."""

from __future__ import annotations

from urllib.parse import quote

from reattach.witness.s3.listing import Page, decode_token, encode_token, list_page
from reattach.witness.s3.objects import find_bucket
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import Response, S3Error, element, invalid_argument, xml_response
from reattach.witness.s3.rules import Snapshot
from reattach.witness.s3.store import Store, iso_time

OWNER_ID = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a"
OWNER = f"<Owner><DisplayName>webfile</DisplayName><ID>{OWNER_ID}</ID></Owner>"

DEFAULT_REGION = "us-east-1"
_MAX_KEYS = 1000


def create_bucket(store: Store, request: Request) -> Response:
    """Answers the plain case; one with a body (a region) is for moto to judge."""
    if not 3 <= len(request.bucket) <= 63:
        raise S3Error(400, "InvalidBucketName", "The specified bucket is not valid.")
    if request.bucket not in store.buckets:
        store.create_bucket(request.bucket, DEFAULT_REGION)
    return Response(200, (("Location", f"/{quote(request.bucket)}"),))


def head_bucket(store: Store, request: Request) -> Response:
    bucket = store.buckets.get(request.bucket)
    if bucket is None:
        return Response(404)
    return Response(200, (("Content-Type", "application/xml"), ("x-amz-bucket-region", bucket.region)))


def delete_bucket(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    if bucket.objects:
        message = "The bucket you tried to delete is not empty"
        raise S3Error(409, "BucketNotEmpty", message, details=[("BucketName", bucket.name)])
    del store.buckets[bucket.name]
    return Response(204, length=None)


def list_buckets(store: Store, request: Request) -> Response:
    entries = "".join(
        f"<Bucket>{element('Name', bucket.name)}{element('CreationDate', iso_time(bucket.created))}</Bucket>"
        for bucket in store.buckets.values()
    )
    content = f"<Buckets>{entries}</Buckets>{OWNER.replace(OWNER_ID, 'bcaf1ffd86f41161ca5fb16fd081034f')}"
    return xml_response("ListAllMyBucketsResult", content)


def get_bucket_location(store: Store, request: Request) -> Response:
    region = find_bucket(store, request.bucket).region
    # us-east-1 is written as nothing.
    return xml_response("LocationConstraint", "" if region == DEFAULT_REGION else region)


def _max_keys(query: dict[str, str]) -> int:
    text = query.get("max-keys", "") or str(_MAX_KEYS)
    if not (text.isdigit() and text.isascii()) or int(text) > 2147483647:
        raise invalid_argument("Provided max-keys not an integer or within integer range", "max-keys", text)
    return int(text)


class _Listing:
    """What both versions of the operation have in common."""

    def __init__(self, store: Store, request: Request, view: Snapshot | None) -> None:
        bucket = find_bucket(store, request.bucket)
        self.bucket = bucket.name
        self.keys, self.objects = view if view is not None else (bucket.keys, bucket.objects)
        self.query = request.query
        self.prefix = self.query.get("prefix", "")
        self.delimiter = self.query.get("delimiter", "")
        self.max_keys = _max_keys(self.query)
        self.encoding = self.query.get("encoding-type")
        if self.encoding not in (None, "url"):
            raise invalid_argument(
                "Invalid Encoding Method specified in Request", "encoding-type", self.encoding or ""
            )

    def page(self, after: str) -> Page:
        return list_page(self.keys, self.prefix, self.delimiter, after, min(self.max_keys, _MAX_KEYS))

    def coded(self, value: str) -> str:
        return quote(value) if self.encoding == "url" else value

    def render(self, page: Page, own: str, owner: str) -> str:
        """`own` is what only one version of the operation has."""
        coded, objects = self.coded, self.objects
        parts = [f"<IsTruncated>{'true' if page.truncated else 'false'}</IsTruncated>"]
        parts += [
            f"<Contents>{element('Key', coded(key))}{objects[key].listing_xml}{owner}</Contents>"
            for key in page.keys
        ]
        parts.append(element("Name", self.bucket) + element("Prefix", coded(self.prefix)))
        if self.delimiter:
            parts.append(element("Delimiter", coded(self.delimiter)))
        parts.append(element("MaxKeys", self.max_keys))
        parts += [
            f"<CommonPrefixes>{element('Prefix', coded(folder))}</CommonPrefixes>" for folder in page.prefixes
        ]
        if self.encoding is not None:
            parts.append(element("EncodingType", self.encoding))
        parts.append(own)
        return "".join(parts)


def list_objects_v2(store: Store, request: Request, view: Snapshot | None) -> Response:
    listing = _Listing(store, request, view)
    token = listing.query.get("continuation-token")
    start_after = listing.query.get("start-after", "")
    after = start_after
    if token is not None:
        try:
            after = decode_token(token)
        except ValueError:
            after = ""
        if not after:
            raise invalid_argument("The continuation token provided is incorrect")
    page = listing.page(after)
    own = element("KeyCount", len(page.keys) + len(page.prefixes))
    if token is not None:
        own += element("ContinuationToken", token)
    if page.truncated:
        own += element("NextContinuationToken", encode_token(page.last))
    if token is None and start_after:
        own += element("StartAfter", listing.coded(start_after))
    owner = OWNER if listing.query.get("fetch-owner") == "true" else ""
    return xml_response("ListBucketResult", listing.render(page, own, owner))


def list_objects(store: Store, request: Request, view: Snapshot | None) -> Response:
    listing = _Listing(store, request, view)
    marker = listing.query.get("marker", "")
    page = listing.page(marker)
    own = element("Marker", listing.coded(marker))
    if page.truncated and listing.delimiter:
        own += element("NextMarker", listing.coded(page.last))
    return xml_response("ListBucketResult", listing.render(page, own, OWNER))

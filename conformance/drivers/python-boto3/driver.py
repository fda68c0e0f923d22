#!/usr/bin/env python3
"""boto3 as a driver of the conformance suite: operations on standard input, results on standard output (FORMAT.md)."""

import concurrent.futures
import datetime
import hashlib
import json
import os
import sys
import threading
import urllib.parse

import boto3
import botocore.config
import botocore.exceptions
import botocore.handlers

CAPABILITIES = [
    "anonymous", "bearer", "bucket_paging", "checksum_algorithm", "checksums", "complete_conditions", "conditions", "content_md5",
    "copy", "copy_conditions", "copy_part", "empty_pages", "front", "head_options", "headers", "http", "part_minimum", "part_pages",
    "part_reads", "presigned", "ranges", "tags", "told_checksums", "upload_details", "upload_list", "upload_pages",
]  # fmt: skip
CONTENT = ["content_type", "cache_control", "content_disposition", "content_encoding", "content_language", "expires"]
ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
# Arguments whose names in boto3 are not the same in capitals.
NAMES = {
    "acl": "ACL", "content_md5": "ContentMD5", "size": "MpuObjectSize", "directive": "MetadataDirective",
    "upload_id_marker": "UploadIdMarker", "bucket_prefix": "Prefix",
    **{f"copy_if_{word}": f"CopySourceIf{word.title().replace('_', '')}"
       for word in ["match", "none_match", "modified_since", "unmodified_since"]},
}  # fmt: skip
HEAD_KINDS = {"304": "NotModified", "400": "BadRequest", "403": "AccessDenied", "412": "PreconditionFailed", "416": "InvalidRange"}


def stream(pieces: list[dict]) -> bytes:
    """The bytes of a body."""
    body = bytearray()
    for piece in pieces:
        first, end = piece["offset"], piece["offset"] + piece["size"]
        blocks = range(first // 32, (end + 31) // 32)
        seed = piece["seed"].to_bytes(8, "big")
        whole = b"".join(hashlib.sha256(seed + counter.to_bytes(8, "big")).digest() for counter in blocks)
        body += whole[first % 32 : first % 32 + piece["size"]]
    return bytes(body)


def parameters(op: str, args: dict) -> dict:
    """The arguments as boto3 wants them."""
    given = {}
    for name, value in args.items():
        key = NAMES.get(name) or "".join(word.capitalize() for word in name.split("_"))
        match name:
            case "body":
                value = stream(value)
            case "tags" if op == "put_object_tagging":
                key, value = "Tagging", {"TagSet": [{"Key": k, "Value": v} for k, v in value.items()]}
            case "tags":
                key, value = "Tagging", urllib.parse.urlencode(value)
            case "policy":
                value = json.dumps(value).replace(":::BUCKET", f":::{args['bucket']}")
            case "keys":
                key, value = "Delete", {"Objects": [{"Key": k} for k in value]}
            case "source":
                key, value = "CopySource", {"Bucket": value["bucket"], "Key": value["key"]}
            case "range":
                key, value = ("CopySourceRange" if op == "upload_part_copy" else "Range"), range_header(value)
            case "parts":
                key, value = "MultipartUpload", {"Parts": [completed(part) for part in value]}
            case "checksum":
                key, value = f"Checksum{value['algorithm']}", value["value"]
            case "checksum_mode":
                value = "ENABLED"
            case "expires" | "response_expires":
                pass  # a text that boto3 sends as it is
            case _ if name.endswith("_since"):
                value = datetime.datetime.fromisoformat(value)
        given[key] = value
    return given


def range_header(value: dict) -> str:
    if "header" in value:
        return value["header"]
    if "suffix" in value:
        return f"bytes=-{value['suffix']}"
    return f"bytes={value['first']}-{value.get('last', '')}"


def completed(part: dict) -> dict:
    checksum = {f"Checksum{part['checksum']['algorithm']}": part["checksum"]["value"]} if "checksum" in part else {}
    return {"PartNumber": part["part_number"], "ETag": part["etag"]} | checksum


def result(op: str, args: dict, got: dict) -> dict:
    """The answer in the words of FORMAT.md; what is missing stays missing."""
    said = {"etag": bare(got.get("ETag")), "checksums": checksums(got), "checksum_type": got.get("ChecksumType")}
    more = {"truncated": got.get("IsTruncated")}
    match op:
        case "list_buckets":
            said = {"buckets": [{"bucket": b["Name"]} for b in got["Buckets"]], "continuation_token": got.get("ContinuationToken")}
        case "get_object" | "head_object":
            said |= whole_or_part(got)
            if op == "get_object":
                body = got["Body"].read()
                digests = {name: hashlib.new(name, body).hexdigest() for name in ["sha256", "md5"]}
                said["body"] = {"size": len(body)} | digests
        case "copy_object" | "upload_part_copy":
            of = got["CopyObjectResult" if op == "copy_object" else "CopyPartResult"]
            said = {"etag": bare(of["ETag"]), "checksums": checksums(of)}
        case "delete_objects":
            order = args["keys"].index
            said = {
                "deleted": sorted((d["Key"] for d in got.get("Deleted", [])), key=order),
                "errors": sorted(({"key": e["Key"], "kind": e["Code"]} for e in got.get("Errors", [])), key=lambda e: order(e["key"])),
            }
        case "list_objects" | "list_objects_v2":
            said = more | {
                "objects": [{"key": o["Key"], "size": o["Size"], "etag": bare(o["ETag"])} for o in got.get("Contents", [])],
                "common_prefixes": [p["Prefix"] for p in got.get("CommonPrefixes", [])],
                "next_marker": got.get("NextMarker"),
                "next_continuation_token": got.get("NextContinuationToken"),
                "key_count": got.get("KeyCount"),
            }
        case "get_bucket_policy":
            said = {"policy": json.loads(got["Policy"].replace(f":::{args['bucket']}", ":::BUCKET"))}
        case "get_bucket_policy_status":
            said = {"is_public": got["PolicyStatus"]["IsPublic"]}
        case "get_object_tagging":
            said = {"tags": {tag["Key"]: tag["Value"] for tag in got["TagSet"]}}
        case "create_multipart_upload":
            said = {"upload_id": got["UploadId"]}
        case "list_parts":
            said = more | {
                "parts": [{"part_number": p["PartNumber"], "size": p["Size"], "etag": bare(p["ETag"])} for p in got.get("Parts", [])],
                "next_part_number_marker": got.get("NextPartNumberMarker"),
            }
        case "list_multipart_uploads":
            said = more | {
                "uploads": [{"key": u["Key"], "upload_id": u["UploadId"]} for u in got.get("Uploads", [])],
                "common_prefixes": [p["Prefix"] for p in got.get("CommonPrefixes", [])],
                "next_key_marker": got.get("NextKeyMarker") or None,
                "next_upload_id_marker": got.get("NextUploadIdMarker") or None,
            }
    return {name: value for name, value in said.items() if value is not None}


def whole_or_part(got: dict) -> dict:
    headers = got["ResponseMetadata"]["HTTPHeaders"]
    length = headers.get("content-length")
    said = {name: headers.get(name.replace("_", "-")) for name in CONTENT}
    said |= {
        "length": length and int(length),
        "size": length and int(length),
        "metadata": got["Metadata"],
        "last_modified": got["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "parts_count": got.get("PartsCount"),
        "tag_count": got.get("TagCount"),
    }
    if "content-range" in headers:
        span, size = headers["content-range"].removeprefix("bytes ").split("/")
        first, last = span.split("-")
        said |= {"range": {"first": int(first), "last": int(last)}, "size": int(size)}
    return said


def bare(etag: str | None) -> str | None:
    return etag and etag.strip('"')


def checksums(got: dict) -> dict | None:
    return {name: got[f"Checksum{name}"] for name in ALGORITHMS if f"Checksum{name}" in got} or None


def kind(op: str, error: botocore.exceptions.ClientError) -> str:
    code = error.response["Error"]["Code"]
    if code == "404":
        return "NoSuchBucket" if op == "head_bucket" else "NoSuchKey"
    return HEAD_KINDS.get(code, code)


class Clients:
    """One client for each way to send."""

    def __init__(self):
        self.credentials = {name: os.environ[name] for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}
        # How the request of this thread is changed before it goes out.
        self.local = threading.local()
        self.signed = self.new()

    def new(self):
        config = botocore.config.Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, parameter_validation=False, max_pool_connections=64,
            retries={"total_max_attempts": 1}, read_timeout=30,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        client = boto3.session.Session().client("s3", config=config)
        client.meta.events.unregister("before-parameter-build.s3", botocore.handlers.validate_bucket_name)
        client.meta.events.register_last("before-send.s3", self.change)
        return client

    def call(self, op: str, given: dict, via: str | dict | None) -> dict:
        self.local.via = via
        if isinstance(via, dict):
            named = {name: value for name, value in given.items() if name != "Body"}
            self.local.url = self.signed.generate_presigned_url(op, Params=named, ExpiresIn=via["presigned"]["expires_in"])
        return getattr(self.signed, op)(**given)

    def change(self, request, **_):
        """Takes the signature off a request and puts in its place what `via` says."""
        via = self.local.via
        if via is None:
            return
        for name in ["Authorization", "X-Amz-Date", "X-Amz-Content-SHA256"]:
            if name in request.headers:
                del request.headers[name]
        if via == "bearer":
            request.headers["Authorization"] = "Bearer " + ":".join(self.credentials.values())
        if isinstance(via, dict):
            via = via["presigned"]
            url = urllib.parse.urlsplit(self.local.url)
            query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)) | via.get("changed", {})
            query = urllib.parse.urlencode({k: v for k, v in query.items() if v}, quote_via=urllib.parse.quote)
            request.url = url._replace(path=url.path + via.get("path", ""), query=query).geturl()
            request.method = via.get("method", request.method)
            for name, value in via.get("headers", {}).items():
                request.headers[name] = value


def answer(clients: Clients, line: str) -> dict:
    asked = json.loads(line)
    op, args = asked["op"], asked["args"]
    try:
        return {"id": asked["id"], "result": result(op, args, clients.call(op, parameters(op, args), asked.get("via")))}
    except botocore.exceptions.ClientError as error:
        why, message = kind(op, error), str(error)
    except (botocore.exceptions.ParamValidationError, AttributeError) as error:
        why, message = "Unsupported", str(error)
    except Exception as error:
        why, message = "ClientFailure", f"{type(error).__name__}: {error}"
    return {"id": asked["id"], "error": {"kind": why, "message": message}}


def main() -> None:
    lock = threading.Lock()

    def say(value: dict) -> None:
        with lock:
            print(json.dumps(value), flush=True)

    clients = Clients()
    say({"driver": "boto3", "capabilities": CAPABILITIES})
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for line in sys.stdin:
            pool.submit(lambda line=line: say(answer(clients, line)))


if __name__ == "__main__":
    main()

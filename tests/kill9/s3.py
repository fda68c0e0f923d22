"""The requests of this program, and what it reads in their answers."""

import dataclasses
import html
import re
import urllib.parse

from jay_testing import Answer, Client, key_path
from ledger import Failure, Piece, Tags

BUCKET = "default"


@dataclasses.dataclass
class Request:
    """One request and the only answer to it."""

    method: str
    key: str
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    status: int = 200
    # The S3 error code, or a piece of the body.
    says: str | None = None

    def send(self, client: Client) -> Answer:
        return client.request(self.method, key_path(BUCKET, self.key), self.query, self.body, self.headers)

    def check(self, answer: Answer) -> None:
        if answer.status != self.status or (self.says or "") not in answer.body.decode(errors="replace"):
            raise Failure(f"{self.method} {self.key}?{self.query} {self.headers}: not {self.status} {self.says}: {answer}")


def tagging_header(tags: Tags) -> str:
    return urllib.parse.urlencode(tags)


def tagging_xml(tags: Tags) -> bytes:
    entries = [f"<Tag><Key>{html.escape(key)}</Key><Value>{html.escape(value)}</Value></Tag>" for key, value in tags]
    return f"<Tagging><TagSet>{''.join(entries)}</TagSet></Tagging>".encode()


def complete_xml(parts: list[tuple[int, str]]) -> bytes:
    entries = [f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts]
    return f"<CompleteMultipartUpload>{''.join(entries)}</CompleteMultipartUpload>".encode()


def create_upload(key: str, headers: dict[str, str]) -> Request:
    return Request("POST", key, "uploads=", headers=headers, says="<UploadId>")


def upload_part(key: str, upload_id: str, number: int, piece: Piece) -> Request:
    return Request("PUT", key, f"partNumber={number}&uploadId={upload_id}", piece.body())


def complete_upload(key: str, upload_id: str, parts: dict[int, Piece], headers: dict[str, str]) -> Request:
    listed = [(number, parts[number].md5.hex()) for number in sorted(parts)]
    return Request("POST", key, f"uploadId={upload_id}", complete_xml(listed), headers, says="<CompleteMultipartUploadResult")


def abort_upload(key: str, upload_id: str) -> Request:
    return Request("DELETE", key, f"uploadId={upload_id}", status=204)


def field(text: str, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", text, re.S)
    if not found:
        raise Failure(f"no {name} in {text[:1000]}")
    return html.unescape(found[1])


def elements(text: str, name: str) -> list[str]:
    return re.findall(rf"<{name}>(.*?)</{name}>", text, re.S)


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")


def get(client: Client, path: str, query: str) -> str:
    answer = client.request("GET", path, query)
    if answer.status != 200:
        raise Failure(f"{path}?{query}: {answer}")
    return answer.body.decode()


def get_tags(client: Client, key: str) -> Tags:
    text = get(client, key_path(BUCKET, key), "tagging=")
    return tuple((field(tag, "Key"), field(tag, "Value")) for tag in elements(text, "Tag"))


def list_objects(client: Client) -> dict[str, tuple[int, str]]:
    """Size and ETag of every key, page by page."""
    found, token = {}, ""
    while True:
        text = get(client, f"/{BUCKET}", f"{token}list-type=2&max-keys=97")
        for entry in elements(text, "Contents"):
            found[field(entry, "Key")] = int(field(entry, "Size")), field(entry, "ETag").strip('"')
        if field(text, "IsTruncated") == "false":
            return found
        token = f"continuation-token={quoted(field(text, 'NextContinuationToken'))}&"


def list_uploads(client: Client) -> dict[str, str]:
    """The key of each open upload, page by page."""
    found, key_marker, id_marker = {}, "", ""
    while True:
        text = get(client, f"/{BUCKET}", f"{key_marker}max-uploads=7{id_marker}&uploads=")
        for entry in elements(text, "Upload"):
            upload_id = field(entry, "UploadId")
            if upload_id in found:
                raise Failure(f"upload {upload_id} is listed twice")
            found[upload_id] = field(entry, "Key")
        if field(text, "IsTruncated") == "false":
            return found
        key_marker = f"key-marker={quoted(field(text, 'NextKeyMarker'))}&"
        id_marker = f"&upload-id-marker={quoted(field(text, 'NextUploadIdMarker'))}"


def list_parts(client: Client, key: str, upload_id: str) -> dict[int, tuple[int, str]]:
    """Size and ETag of each part, page by page."""
    found, marker = {}, ""
    while True:
        text = get(client, key_path(BUCKET, key), f"max-parts=3{marker}&uploadId={upload_id}")
        for entry in elements(text, "Part"):
            found[int(field(entry, "PartNumber"))] = int(field(entry, "Size")), field(entry, "ETag").strip('"')
        if field(text, "IsTruncated") == "false":
            return found
        marker = f"&part-number-marker={field(text, 'NextPartNumberMarker')}"

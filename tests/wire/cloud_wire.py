"""Anthropic's models as Amazon and Google serve them: other paths, other credentials, other frames."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .anthropic_blocks import Rejected
from .anthropic_wire import MessagesServer
from .loopback import JSON, Request, Response

ACCESS, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1"
TOKEN = "ya29.test-0123456789abcdef"
PROJECT = "a-project"
VERSION = "2026-10-21"


class Frames(Response):
    """A response in Amazon's binary event stream."""

    def frames(self) -> list[bytes]:
        return [
            frame({":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}, event)
            if event.get("type") != "error"
            else frame(
                {
                    ":message-type": "exception",
                    ":exception-type": event["error"]["type"],
                    ":content-type": "application/json",
                },
                {"message": event["error"]["message"]},
                wrapped=False,
            )
            for event in self.events
            if isinstance(event, dict)
        ]


def frame(headers: dict[str, str], event: JSON, *, wrapped: bool = True) -> bytes:
    """One message: lengths, their sum, headers, payload, the sum of it all ("Event stream encoding", AWS)."""
    data = json.dumps(event).encode()
    payload = json.dumps({"bytes": base64.b64encode(data).decode(), "p": "abcd"}).encode() if wrapped else data
    packed = b"".join(
        struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + packed + payload
    return whole + struct.pack(">I", binascii.crc32(whole))


@dataclass
class BedrockServer(MessagesServer):
    """`POST /model/MODEL/invoke` and `.../invoke-with-response-stream`, signed by AWS's scheme or with a token."""

    bearer: str = ""

    def handle(self, request: Request) -> Response:
        try:
            self._authorise(request)
            found = re.fullmatch(r"/model/([^/]+)/(invoke|invoke-with-response-stream)", request.path)
            if not found:
                raise Rejected("not found", 404)
            body = dict(request.body)
            if body.pop("anthropic_version", None) != VERSION:
                raise Rejected("anthropic_version: Field required")
            if {"model", "stream"} & body.keys():
                raise Rejected("extraneous key [model] is not permitted")
            streams = found[2] == "invoke-with-response-stream"
            betas = body.pop("anthropic_beta", [])
            answer = self.answer(body | {"model": unquote(found[1]), "stream": streams}, betas)
        except Rejected as rejected:
            said = rejected.response.body["error"]["message"]
            return Response({"message": said}, rejected.response.status)
        if not streams:
            return answer
        return Frames(answer.body, headers={"content-type": "application/vnd.amazon.eventstream"}, events=answer.events)

    def _authorise(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self.bearer:
            if given != f"Bearer {self.bearer}":
                raise Rejected("The security token included in the request is invalid.", 403)
            return
        if f"Credential={ACCESS}/" not in given or f"/{REGION}/bedrock/aws4_request" not in given:
            raise Rejected("The security token included in the request is invalid.", 403)
        if given != self._signed(request, given):
            raise Rejected("The request signature we calculated does not match the signature you provided.", 403)

    def _signed(self, request: Request, given: str) -> str:
        """The header that the request should have, computed from the secret."""
        names = re.search(r"SignedHeaders=([^,]+)", given)
        headers = {name: request.headers[name] for name in (names[1] if names else "").split(";")}
        # What was sent is what was signed: the client writes JSON without spaces.
        data = json.dumps(request.body, separators=(",", ":"), ensure_ascii=False).encode()
        url = f"http://{request.headers['host']}{request.path}"
        again = AWSRequest(method="POST", url=url, headers=headers, data=data)
        again.context["timestamp"] = request.headers["x-amz-date"]
        signer = SigV4Auth(Credentials(ACCESS, SECRET), "bedrock", REGION)
        canonical = signer.canonical_request(again)
        signature = signer.signature(signer.string_to_sign(again, canonical), again)
        return re.sub(r"Signature=\w+", f"Signature={signature}", given)


@dataclass
class VertexServer(MessagesServer):
    """`POST /projects/PROJECT/locations/REGION/publishers/anthropic/models/MODEL:VERB`, in one piece or streamed."""

    def handle(self, request: Request) -> Response:
        try:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                raise Rejected("Request had invalid authentication credentials.", 401, "authentication_error")
            base = f"/projects/{PROJECT}/locations/{REGION}/publishers/anthropic/models/"
            model, _, verb = unquote(request.path).removeprefix(base).rpartition(":")
            body = dict(request.body)
            if body.pop("anthropic_version", None) != VERSION:
                raise Rejected("anthropic_version: Field required")
            counting = model == "count-tokens"
            if not request.path.startswith(base) or verb != (
                "streamRawPredict" if body.get("stream") else "rawPredict"
            ):
                raise Rejected("not found", 404, "not_found_error")
            betas = request.headers.get("anthropic-beta", "").split(",")
            return self.answer(body if counting else {**body, "model": model}, betas, counting=counting)
        except Rejected as rejected:
            return rejected.response


def environment(provider: str) -> dict[str, Any]:
    """The variables that a client of the provider needs."""
    if provider == "bedrock":
        keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
        return keys | {"AWS_EC2_METADATA_DISABLED": "true"}
    return {"ANTHROPIC_VERTEX_PROJECT_ID": PROJECT, "CLOUD_ML_REGION": REGION, "VERTEX_TOKEN": TOKEN}

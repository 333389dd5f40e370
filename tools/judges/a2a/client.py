"""The official Python SDK (1.x) as a client: URL of a card, `verify` to check its signature. Prints what it got, ids left out."""
import asyncio
import json
import sys
from urllib.parse import urlsplit

import httpx
import jwt
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import CancelTaskRequest, GetTaskRequest, Message, Part, Role, SendMessageRequest
from a2a.utils.signing import create_signature_verifier
from google.protobuf.json_format import MessageToDict


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in sorted(value.items()) if k not in ("id", "taskId", "contextId", "messageId", "timestamp")}
    return [plain(v) for v in value] if isinstance(value, list) else value


def say(what, *messages):
    print(what, json.dumps([plain(MessageToDict(m)) for m in messages], ensure_ascii=False), flush=True)


def request(text):
    return SendMessageRequest(message=Message(message_id="m-" + text, role=Role.ROLE_USER, parts=[Part(text=text)]))


async def main():
    card_url, verify = sys.argv[1], "verify" in sys.argv
    parts = urlsplit(card_url)
    async with httpx.AsyncClient(timeout=60) as http:
        resolver = A2ACardResolver(http, f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/"))
        verifier = None
        if verify:
            keys = httpx.get(f"{parts.scheme}://{parts.netloc}/a2a/keys.json").json()
            found = {key["kid"]: jwt.PyJWK(key) for key in keys["keys"]}
            checks = create_signature_verifier(lambda kid, jku: found[kid], ["EdDSA"])

            def verifier(card):
                # The SDK's check ends in `jwt.decode`, which wants an object with claims: a card is one.
                checks(card)
                print("signature good", file=sys.stderr)

        card = await resolver.get_agent_card(signature_verifier=verifier)
        say("skills", *card.skills)
        for binding in ("JSONRPC", "HTTP+JSON"):
            if not any(one.protocol_binding == binding for one in card.supported_interfaces):
                continue
            for streaming in (True, False):
                config = ClientConfig(httpx_client=http, streaming=streaming, supported_protocol_bindings=[binding])
                client = ClientFactory(config).create(card)
                for text in ("Ada", "task"):
                    events = [event async for event in client.send_message(request(text))]
                    say(f"{binding} {streaming} {text}", *events)
            task = events[-1].task
            say("get", await client.get_task(GetTaskRequest(id=task.id)))
            config = ClientConfig(httpx_client=http, streaming=True, supported_protocol_bindings=[binding])
            client = ClientFactory(config).create(card)
            seen = []
            async for event in client.send_message(request("slow")):
                seen.append(event)
                if event.HasField("status_update") and len(seen) == 2:
                    say("cancel", await client.cancel_task(CancelTaskRequest(id=event.status_update.task_id)))
            say("slow", *seen)
            try:
                await client.get_task(GetTaskRequest(id="none"))
            except Exception as error:
                print("none", type(error).__name__, flush=True)


asyncio.run(main())

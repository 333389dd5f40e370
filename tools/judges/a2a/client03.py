"""The official Python SDK of A2A 0.3 as a client (what CrewAI and Strands build on): URL of a card."""
import asyncio
import json
import sys
from urllib.parse import urlsplit

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, TaskQueryParams, TextPart


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in sorted(value.items()) if k not in ("id", "taskId", "contextId", "messageId", "timestamp")}
    return [plain(v) for v in value] if isinstance(value, list) else value


def dumped(event):
    pair = event if isinstance(event, tuple) else (event,)
    return [plain(one.model_dump(mode="json", by_alias=True, exclude_none=True)) for one in pair if one is not None]


async def main():
    parts = urlsplit(sys.argv[1])
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")).get_agent_card()
        print("card", card.name, card.protocol_version, card.preferred_transport)
        for streaming in (True, False):
            client = ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)
            for text in ("Ada", "task"):
                message = Message(message_id="m-" + text, role=Role.user, parts=[Part(root=TextPart(text=text))])
                events = [event async for event in client.send_message(message)]
                print(streaming, text, json.dumps([dumped(e) for e in events], ensure_ascii=False), flush=True)
        print("get", json.dumps(dumped(await client.get_task(TaskQueryParams(id=events[-1][0].id))), ensure_ascii=False))


asyncio.run(main())

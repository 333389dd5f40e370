"""An agent on the official Python SDK, all of A2A 1.0 and 0.3 that it serves: prints its URL."""
import asyncio
import socket
import sys

import uvicorn
from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

# Without 0.3, neither in the card nor at the interfaces.
MODERN = "--modern" in sys.argv


class Hello(AgentExecutor):
    """Greets; a text with `task` in it becomes a task with steps, one with `slow` waits to be cancelled."""

    async def execute(self, context, event_queue):
        text = context.get_user_input()
        if "task" not in text and "slow" not in text:
            await event_queue.enqueue_event(new_text_message(f"Hello {text}"))
            return
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        if "slow" in text:
            await asyncio.sleep(60)
        for step in range(3):
            await updater.add_artifact([new_text_part(f"step {step} žluť 🐎")], artifact_id=f"a{step}")
            await asyncio.sleep(0.02)
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def main():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    versions = ["1.0"] if MODERN else ["1.0", "0.3"]
    interfaces = [AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version=v) for v in versions]
    interfaces.append(AgentInterface(url=f"{url}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"))
    card = AgentCard(
        name="Hello World Agent",
        description="Just a hello world agent",
        version="1.0.0",
        supported_interfaces=interfaces,
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(streaming=True),
        skills=[AgentSkill(id="hello_world", name="Returns hello world", description="just returns hello world",
                           tags=["hello world"], examples=["hi", "hello world"])],
    )
    handler = DefaultRequestHandler(agent_executor=Hello(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=not MODERN),
        *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=not MODERN),
    ]
    # Who reads the URL may come at once.
    sock.listen(128)
    print(url, flush=True)
    uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning")).run(sockets=[sock])


main()

"""An agent on the official Python SDK of A2A 0.3: prints its URL."""
import socket

import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.apps import A2AStarletteApplication
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentSkill, Part, TextPart
from a2a.utils import new_agent_text_message, new_task


class Hello(AgentExecutor):
    async def execute(self, context, event_queue):
        text = context.get_user_input()
        if "task" not in text:
            await event_queue.enqueue_event(new_agent_text_message(f"Hello {text}"))
            return
        task = context.current_task or new_task(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        await updater.add_artifact([Part(root=TextPart(text="step žluť 🐎"))], artifact_id="a0")
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


sock = socket.socket()
sock.bind(("127.0.0.1", 0))
url = f"http://127.0.0.1:{sock.getsockname()[1]}"
skill = AgentSkill(id="hello", name="Hello", description="says hello", tags=["hello"])
card = AgentCard(name="Old agent", description="An agent of 0.3", url=f"{url}/", version="1", skills=[skill],
                 default_input_modes=["text/plain"], default_output_modes=["text/plain"],
                 capabilities=AgentCapabilities(streaming=True))
handler = DefaultRequestHandler(agent_executor=Hello(), task_store=InMemoryTaskStore())
# Who reads the URL may come at once.
sock.listen(128)
print(url, flush=True)
app = A2AStarletteApplication(agent_card=card, http_handler=handler).build()
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[sock])

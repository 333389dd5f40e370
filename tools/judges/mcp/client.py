"""The official Python SDK as a client of the URL given: lists the tools, calls what it knows."""
import asyncio
import sys

from mcp import Client


async def main():
    async with Client(sys.argv[1]) as client:
        tools = (await client.list_tools()).tools
        print("tools:", *[tool.name for tool in tools])
        for name, arguments in [("add", {"a": 2, "b": 3}), ("echo", {"message": "ž"}), ("status", {})]:
            if any(tool.name == name for tool in tools):
                result = await client.call_tool(name, arguments)
                print(name, result.is_error, result.content[0].text[:200])


asyncio.run(main())

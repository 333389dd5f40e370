// The official TypeScript SDK as a client of the URL given: lists the tools, calls what it knows.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
const client = new Client({ name: "judge", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
const { tools } = await client.listTools();
console.log("tools:", ...tools.map((tool) => tool.name));
for (const [name, args] of [["add", { a: 2, b: 3 }], ["echo", { message: "ž" }], ["status", {}]]) {
  if (!tools.some((tool) => tool.name === name)) continue;
  const result = await client.callTool({ name, arguments: args });
  console.log(name, result.isError ?? false, result.content[0].text.slice(0, 200));
}
await client.close();

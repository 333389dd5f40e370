// A server with the tools, prompts and resources that the MCP conformance suite expects, on the official TypeScript SDK.
// Prints its URL.
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { McpServer, ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import {
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
  SetLevelRequestSchema,
  CompleteRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
const PNG =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==",
  WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";
const sleep = (ms) => new Promise((r) => setTimeout(r, ms)),
  text = (t) => ({ content: [{ type: "text", text: t }] });
const res = (uri, t) => ({ type: "resource", resource: { uri, mimeType: "text/plain", text: t } });
function make() {
  const s = new McpServer(
    { name: "fixture", version: "1" },
    {
      capabilities: {
        logging: {},
        resources: { subscribe: true, listChanged: true },
        tools: { listChanged: true },
        prompts: { listChanged: true },
        completions: {},
      },
    },
  );
  const t = (n, c, f) => s.registerTool(n, { description: n, ...c }, f);
  t("test_simple_text", {}, async () => text("This is a simple text response for testing."));
  t("test_image_content", {}, async () => ({
    content: [{ type: "image", data: PNG, mimeType: "image/png" }],
  }));
  t("test_audio_content", {}, async () => ({
    content: [{ type: "audio", data: WAV, mimeType: "audio/wav" }],
  }));
  t("test_embedded_resource", {}, async () => ({
    content: [res("test://embedded-resource", "This is an embedded resource content.")],
  }));
  t("test_multiple_content_types", {}, async () => ({
    content: [
      { type: "text", text: "Multiple content types test:" },
      { type: "image", data: PNG, mimeType: "image/png" },
      {
        type: "resource",
        resource: {
          uri: "test://mixed-content-resource",
          mimeType: "application/json",
          text: '{"test":"data","value":123}',
        },
      },
    ],
  }));
  t("test_tool_with_logging", {}, async (x) => {
    for (const m of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await x.sendNotification({ method: "notifications/message", params: { level: "info", data: m } });
      await sleep(50);
    }
    return text("done");
  });
  t("test_tool_with_progress", {}, async (x) => {
    const p = x._meta?.progressToken ?? 0;
    for (const n of [0, 50, 100]) {
      await x.sendNotification({
        method: "notifications/progress",
        params: { progressToken: p, progress: n, total: 100, message: `Completed step ${n} of 100` },
      });
      await sleep(50);
    }
    return text(String(p));
  });
  t("test_error_handling", {}, async () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
  t("test_sampling", { inputSchema: { prompt: z.string() } }, async ({ prompt }, x) => {
    const r = await x.sendRequest(
      {
        method: "sampling/createMessage",
        params: { messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens: 100 },
      },
      z.any(),
    );
    return text("LLM response: " + (r.content?.text ?? ""));
  });
  const elicit = async (x, message, schema) => {
    const r = await x.sendRequest(
      { method: "elicitation/create", params: { message, requestedSchema: schema } },
      z.any(),
    );
    return r;
  };
  t("test_elicitation", { inputSchema: { message: z.string() } }, async ({ message }, x) => {
    const r = await elicit(x, message, {
      type: "object",
      properties: {
        username: { type: "string", description: "User's response" },
        email: { type: "string", description: "User's email address" },
      },
      required: ["username", "email"],
    });
    return text(`User response: action=${r.action}, content=${JSON.stringify(r.content ?? {})}`);
  });
  t("test_elicitation_sep1034_defaults", {}, async (x) => {
    const r = await elicit(x, "defaults", {
      type: "object",
      properties: {
        name: { type: "string", default: "John Doe" },
        age: { type: "integer", default: 30 },
        score: { type: "number", default: 95.5 },
        status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
        verified: { type: "boolean", default: true },
      },
      required: [],
    });
    return text(`Elicitation completed: action=${r.action}, content=${JSON.stringify(r.content ?? {})}`);
  });
  t("test_elicitation_sep1330_enums", {}, async (x) => {
    const c = [
        { const: "value1", title: "First Option" },
        { const: "value2", title: "Second Option" },
        { const: "value3", title: "Third Option" },
      ],
      e = ["option1", "option2", "option3"];
    const r = await elicit(x, "enums", {
      type: "object",
      properties: {
        untitledSingle: { type: "string", enum: e },
        titledSingle: { type: "string", oneOf: c },
        legacyEnum: {
          type: "string",
          enum: ["opt1", "opt2", "opt3"],
          enumNames: ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti: { type: "array", items: { type: "string", enum: e } },
        titledMulti: { type: "array", items: { anyOf: c } },
      },
      required: [],
    });
    return text(`Elicitation completed: action=${r.action}, content=${JSON.stringify(r.content ?? {})}`);
  });
  t("json_schema_2020_12_tool", { inputSchema: { name: z.string().optional() } }, async () => text("ok"));
  t("test_reconnection", {}, async (x) => {
    x.closeSSEStream?.();
    await sleep(100);
    return text("Reconnection test completed successfully.");
  });
  s.registerResource(
    "static-text",
    "test://static-text",
    { mimeType: "text/plain", description: "t" },
    async (u) => ({
      contents: [
        { uri: u.href, mimeType: "text/plain", text: "This is the content of the static text resource." },
      ],
    }),
  );
  s.registerResource(
    "static-binary",
    "test://static-binary",
    { mimeType: "image/png", description: "b" },
    async (u) => ({ contents: [{ uri: u.href, mimeType: "image/png", blob: PNG }] }),
  );
  s.registerResource(
    "template",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { mimeType: "application/json", description: "d" },
    async (u, { id }) => ({
      contents: [
        {
          uri: u.href,
          mimeType: "application/json",
          text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
        },
      ],
    }),
  );
  s.registerResource(
    "watched",
    "test://watched-resource",
    { mimeType: "text/plain", description: "w" },
    async (u) => ({ contents: [{ uri: u.href, mimeType: "text/plain", text: "Watched resource content" }] }),
  );
  const u = (...c) => ({ messages: c.map((content) => ({ role: "user", content })) });
  s.registerPrompt("test_simple_prompt", { description: "s" }, async () =>
    u({ type: "text", text: "This is a simple prompt for testing." }),
  );
  s.registerPrompt(
    "test_prompt_with_arguments",
    { description: "a", argsSchema: { arg1: z.string(), arg2: z.string() } },
    async ({ arg1, arg2 }) =>
      u({ type: "text", text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` }),
  );
  s.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "e", argsSchema: { resourceUri: z.string() } },
    async ({ resourceUri }) =>
      u(res(resourceUri, "Embedded resource content for testing."), {
        type: "text",
        text: "Please process the embedded resource above.",
      }),
  );
  s.registerPrompt("test_prompt_with_image", { description: "i" }, async () =>
    u(
      { type: "image", data: PNG, mimeType: "image/png" },
      { type: "text", text: "Please analyze the image above." },
    ),
  );
  s.server.setRequestHandler(SubscribeRequestSchema, async () => ({}));
  s.server.setRequestHandler(UnsubscribeRequestSchema, async () => ({}));
  s.server.setRequestHandler(SetLevelRequestSchema, async () => ({}));
  s.server.setRequestHandler(CompleteRequestSchema, async () => ({
    completion: { values: [], total: 0, hasMore: false },
  }));
  return s;
}
const sessions = {};
createServer(async (q, r) => {
  const h = (q.headers.host ?? "").split(":")[0];
  if (
    !["localhost", "127.0.0.1"].includes(h) ||
    (q.headers.origin && !/^https?:\/\/(localhost|127\.0\.0\.1)(:\d+)?$/.test(q.headers.origin))
  ) {
    r.writeHead(403).end();
    return;
  }
  let b = "";
  for await (const c of q) b += c;
  let j;
  try {
    j = b ? JSON.parse(b) : undefined;
  } catch {
    r.writeHead(400).end();
    return;
  }
  let t = sessions[q.headers["mcp-session-id"]];
  if (!t) {
    if (j?.method !== "initialize") {
      r.writeHead(q.headers["mcp-session-id"] ? 404 : 400).end();
      return;
    }
    t = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (i) => {
        sessions[i] = t;
      },
      retryInterval: 500,
    });
    await make().connect(t);
  }
  await t.handleRequest(q, r, j);
}).listen(0, "127.0.0.1", function () {
  console.log(`http://127.0.0.1:${this.address().port}/mcp`);
});

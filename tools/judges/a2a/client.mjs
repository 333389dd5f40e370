// The official JavaScript SDK as a client: URL of a card. Prints what it got, ids left out.
import { ClientFactory } from "@a2a-js/sdk/client";
const url = new URL(process.argv[2]);
const plain = (v) =>
  Array.isArray(v)
    ? v.map(plain)
    : v && typeof v === "object"
      ? Object.fromEntries(
          Object.entries(v)
            .filter(([k]) => !["id", "taskId", "contextId", "messageId", "timestamp"].includes(k))
            .sort()
            .map(([k, w]) => [k, plain(w)]),
        )
      : v;
const say = (what, value) => console.log(what, JSON.stringify(plain(value)));
const message = (text) => ({
  message: {
    messageId: "m-" + text,
    role: 1,
    parts: [{ content: { $case: "text", value: text }, metadata: undefined, filename: "", mediaType: "" }],
    contextId: "",
    taskId: "",
    extensions: [],
    metadata: undefined,
    referenceTaskIds: [],
  },
  configuration: undefined,
  metadata: undefined,
  tenant: "",
});
const client = await new ClientFactory().createFromUrl(url.origin, url.pathname);
for (const text of ["Ada", "task"]) {
  say("send " + text, await client.sendMessage(message(text)));
  const events = [];
  for await (const event of client.sendMessageStream(message(text))) events.push(event);
  say("stream " + text, events);
}

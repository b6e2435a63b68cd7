// A backend that follows runs, reads streams and sends values while its server is killed and comes back at the same address. Prints
// {begun} once it is at it, and at the end what it saw.

import { runs, streams, tasks } from "@trigger.dev/sdk";

const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const tag = `survive-${process.pid}`;
const talk = await tasks.trigger("talk", { n: 150, per: 5, ms: 300 }, { tags: [tag] });
const listen = await tasks.trigger("listen", { count: 20, ms: 60_000 }, { tags: [tag] });

async function followed() {
  const statuses = [];
  for await (const { status } of runs.subscribeToRun(talk.id)) statuses.push(status);
  return statuses;
}

async function tagged() {
  const ended = new Set();
  for await (const { id, isCompleted } of runs.subscribeToRunsWithTag(tag)) {
    if (isCompleted) ended.add(id);
    if (ended.size === 2) return ended.size;
  }
}

async function read(id, key) {
  const chunks = [];
  for await (const chunk of await streams.read(id, key)) chunks.push(chunk);
  return chunks;
}

async function sent() {
  for (let value = 0; value < 20; value++) {
    await streams.input({ id: "chat" }).send(listen.id, value);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return 20;
}

print({ begun: true });
const [statuses, ended, numbers, heard, values] = await Promise.all([
  followed(),
  tagged(),
  read(talk.id, "numbers"),
  read(listen.id, "heard"),
  sent(),
]);
print({ statuses: [...new Set(statuses)], last: statuses.at(-1), ended, numbers, heard, sent: values });
process.exit(0);

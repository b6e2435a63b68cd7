// The guest that the tests suspend and restore at every wait: the same idea as rust-chain, below the frames of a JavaScript
// engine. This file is the way from the host's call to the task's function.

import { chain } from "./chain";
import { depths } from "./depths";
import { fetching } from "./fetching";
import * as work from "./work";

type Task = (payload: any) => unknown;

const definitions: Record<string, { task: Task; description?: string }> = {
  ...Object.fromEntries(Object.entries(work).map(([id, task]) => [id, { task }])),
  chain: { task: chain, description: "Waits n times from every kind of stack" },
  depths: { task: depths, description: "Recurses until the engine says that it is enough" },
  echo: { task: (payload) => payload },
  fetch: { task: fetching, description: "Sends a request and reads the answer" },
};

const retry = { maxAttempts: 1, factor: 2, minTimeoutMs: 1000n, maxTimeoutMs: 60000n, randomize: false };

/** What the component exports; `tasks` is the name of the interface. */
export const tasks = {
  describe() {
    const described = Object.entries(definitions).map(([id, { description }]) => (
      { id, kind: "standard", description, retry, concurrencyLimits: [], hooks: {} }
    ));
    return { sdk: "js/0.1.0", tasks: described, queues: [], concurrencyLimits: [] };
  },

  async run(id: string, payload: { data: Uint8Array; contentType: string }) {
    const definition = Object.hasOwn(definitions, id) ? definitions[id] : undefined;
    if (!definition) throw failure("unknown-task", { tag: "text", val: `there is no task \`${id}\`` });
    let output: unknown;
    try {
      const text = new TextDecoder().decode(payload.data);
      output = await definition.task(text === "" ? undefined : JSON.parse(text));
    } catch (error) {
      throw failure("thrown", runError(error));
    }
    const data = new TextEncoder().encode(output === undefined ? "" : JSON.stringify(output));
    return { data, contentType: "application/json" };
  },
};

/** A thrown value that is no `Error` is taken by componentize-js for the error of the WIT function. */
function failure(reason: string, error: unknown) {
  return { reason, error, retry: { tag: "policy" } };
}

function runError(error: unknown) {
  if (!(error instanceof Error)) return { tag: "custom", val: JSON.stringify(error) ?? "null" };
  const outermost = { name: error.name, message: error.message, stackTrace: error.stack ?? "" };
  return { tag: "exception", val: { outermost, causes: [] } };
}

// A card for each hook, under the hook's name.

import * as hooks from "@trigger.dev/react-hooks";
import { useState } from "react";

import { Card, Facts, Progress, Status, colour, short } from "./frame.jsx";

/** Options of a hook, from what a card was given. `freshToken` is what a token that is no longer good is exchanged for. */
const access = ({ token, freshToken, ...options }) => ({
  ...options,
  ...(token && { accessToken: token }),
  ...(freshToken && { refreshAccessToken: async () => freshToken }),
});

const Text = ({ parts, isOver }) => (
  <p className="text">
    <span data-is="text">{parts.join("")}</span>
    {!isOver && <i className="caret" />}
  </p>
);

export function useRun({ runId, title = "Asked now and then", note, ...given }) {
  const { run, error } = hooks.useRun(runId, access({ refreshInterval: 1000, ...given }));
  const facts = { task: run?.taskIdentifier, attempt: run?.attemptCount, version: run?.version, cpu: run && `${run.durationMs} ms` };
  return (
    <Card hook="useRun" title={title} status={run?.status} error={error}>
      {note && <p className="lead">{note}</p>}
      <Facts facts={facts} />
    </Card>
  );
}

export function useRealtimeRun({ runId, title = "One run", ...given }) {
  const [ends, setEnds] = useState(0);
  const { run, error } = hooks.useRealtimeRun(runId, { ...access(given), onComplete: () => setEnds((before) => before + 1) });
  return (
    <Card hook="useRealtimeRun" title={title} status={run?.status} error={error}>
      <Progress percent={run?.metadata?.progress} label={run?.metadata?.step ?? "…"} />
      <Facts facts={{ run: short(runId), told: ends ? `the end, ${ends === 1 ? "once" : `${ends} times`}` : "not the end yet" }} />
    </Card>
  );
}

export function useRealtimeRunWithStreams({ runId, title = "A run with its streams", ...given }) {
  const { run, streams, error } = hooks.useRealtimeRunWithStreams(runId, access(given));
  return (
    <Card hook="useRealtimeRunWithStreams" title={title} status={run?.status} error={error}>
      <Facts facts={Object.fromEntries(Object.entries(streams).map(([key, chunks]) => [key, `${chunks.length} chunks`]))} />
      <Text parts={(streams.text ?? []).slice(-9)} isOver={run?.isCompleted} />
    </Card>
  );
}

export function useRealtimeRunsWithTag({ tag, title = "Everything with a tag", ...given }) {
  const { runs, error } = hooks.useRealtimeRunsWithTag(tag, access(given));
  return (
    <Card hook="useRealtimeRunsWithTag" title={title} error={error}>
      <ul className="runs">
        {runs.map((run) => (
          <li key={run.id} data-is="run">
            <span>{run.metadata?.what ?? run.taskIdentifier}</span>
            <Status status={run.status} />
          </li>
        ))}
      </ul>
    </Card>
  );
}

export function useRealtimeBatch({ batchId, title = "A batch", of, ...given }) {
  const { runs, error } = hooks.useRealtimeBatch(batchId, access(given));
  const over = runs.filter(({ isCompleted }) => isCompleted).length;
  return (
    <Card hook="useRealtimeBatch" title={title} error={error}>
      <div className="between">
        <span>
          <b data-is="over">{over}</b> of <b data-is="all">{runs.length}</b> are over
        </span>
        <span data-is="failed">{runs.filter(({ isFailed }) => isFailed).length} failed</span>
      </div>
      <div className="squares">
        {runs.map((run) => (
          <i key={run.id} title={run.id} className={colour(run.status)} />
        ))}
      </div>
    </Card>
  );
}

export function useRealtimeStream({ runId, stream, title = "A stream of words", wide, ...given }) {
  const { parts, lastEventId, error } = hooks.useRealtimeStream(runId, stream, access(given));
  return (
    <Card hook="useRealtimeStream" title={title} error={error} wide={wide}>
      <Text parts={parts} isOver={!!error} />
      <Facts facts={{ stream, chunks: parts.length, last: lastEventId }} />
    </Card>
  );
}

export function useTaskTrigger({ task, payload, options, title = "Trigger and forget", ...given }) {
  const { submit, handle, isLoading, error } = hooks.useTaskTrigger(task, access(given));
  return (
    <Card hook="useTaskTrigger" title={title} error={error}>
      <Facts facts={{ task, run: short(handle?.id) }} />
      <button onClick={() => submit(payload, options)} disabled={isLoading}>
        Trigger {task}
      </button>
    </Card>
  );
}

export function useRealtimeTaskTrigger({ task, payload, options, title = "Trigger and follow", ...given }) {
  const { submit, run, isLoading, error } = hooks.useRealtimeTaskTrigger(task, access(given));
  return (
    <Card hook="useRealtimeTaskTrigger" title={title} status={run?.status} error={error}>
      <Progress percent={run?.metadata?.progress} label={run?.metadata?.step ?? "not begun"} />
      <button onClick={() => submit(payload, options)} disabled={isLoading}>
        Trigger {task}
      </button>
    </Card>
  );
}

export function useRealtimeTaskTriggerWithStreams({ task, payload, options, title = "Trigger and read", ...given }) {
  const { submit, run, streams, isLoading, error } = hooks.useRealtimeTaskTriggerWithStreams(task, access(given));
  return (
    <Card hook="useRealtimeTaskTriggerWithStreams" title={title} status={run?.status} error={error}>
      <Text parts={(streams.text ?? []).slice(-9)} isOver={!run || run.isCompleted} />
      <button onClick={() => submit(payload, options)} disabled={isLoading}>
        Trigger {task}
      </button>
    </Card>
  );
}

export function useWaitToken({ tokenId, title = "A person decides", ...given }) {
  const { complete, isLoading, isCompleted, error } = hooks.useWaitToken(tokenId, access(given));
  return (
    <Card hook="useWaitToken" title={title} error={error}>
      <p className="lead" data-is="answer">
        {isCompleted ? "Answered. The run goes on." : "Shall the draft be published? The run sleeps until somebody says."}
      </p>
      <div className="buttons">
        <button onClick={() => complete({ approved: true })} disabled={isLoading || isCompleted}>
          Publish
        </button>
        <button className="quiet" onClick={() => complete({ approved: false })} disabled={isLoading || isCompleted}>
          Put away
        </button>
      </div>
    </Card>
  );
}

export function useInputStreamSend({ runId, stream, title = "Say something to a run", ...given }) {
  const { send, isLoading, isReady, error } = hooks.useInputStreamSend(stream, runId, access(given));
  const [note, setNote] = useState("");
  const [said, setSaid] = useState([]);
  const submit = (event) => {
    event.preventDefault();
    send(note);
    setSaid([...said, note]);
    setNote("");
  };
  return (
    <Card hook="useInputStreamSend" title={title} error={error}>
      <ul className="said">
        {said.slice(-3).map((text, place) => (
          <li key={place}>{text}</li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <input value={note} onChange={(event) => setNote(event.target.value)} placeholder="A note for the writer" aria-label="note" />
        <button disabled={!isReady || isLoading || !note}>Send</button>
      </form>
    </Card>
  );
}

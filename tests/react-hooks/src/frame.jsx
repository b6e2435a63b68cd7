// What the cards are made of.

const COLOURS = {
  QUEUED: "grey",
  DEQUEUED: "blue",
  EXECUTING: "blue",
  WAITING: "amber",
  DELAYED: "violet",
  PENDING_VERSION: "violet",
  COMPLETED: "green",
};

/** The colour of a status; every other end is red. */
export const colour = (status) => (status === undefined ? "grey" : (COLOURS[status] ?? "red"));

export function Header({ apiUrl }) {
  return (
    <header>
      <svg viewBox="0 0 48 48" aria-hidden="true">
        <circle cx="24" cy="24" r="22" className="night" />
        <path d="M33 31.5A13 13 0 0 1 19.6 11.4 14 14 0 1 0 33 31.5Z" className="moon" />
        <text x="27" y="20">z</text>
        <text x="32.5" y="14.5" className="small">z</text>
      </svg>
      <div>
        <h1>Dormouse live</h1>
        <p>
          <code>@trigger.dev/react-hooks</code>, as it comes from npm
        </p>
      </div>
      <span className="server">
        <i className="dot green beating" />
        {apiUrl.replace(/^https?:\/\//, "")}
      </span>
    </header>
  );
}

export function Card({ hook, title, status, error, wide, children }) {
  return (
    <section data-hook={hook} className={wide ? "wide" : ""}>
      <div className="top">
        <div>
          <h2>{title}</h2>
          <code>{hook}</code>
        </div>
        {status && <Status status={status} />}
      </div>
      {children}
      {error && (
        <p role="alert">
          <b>{error.name}</b> {error.message}
        </p>
      )}
    </section>
  );
}

export const Status = ({ status }) => (
  <span data-is="status" className={`status ${colour(status)}`}>
    <i className={`dot ${colour(status)} ${["EXECUTING", "DEQUEUED"].includes(status) ? "beating" : ""}`} />
    {status}
  </span>
);

export const Progress = ({ percent = 0, label }) => (
  <div className="progress">
    <div className="between">
      <span data-is="step">{label}</span>
      <b data-is="progress">{percent}%</b>
    </div>
    <div className="track">
      <div style={{ width: `${percent}%` }} />
    </div>
  </div>
);

export const Facts = ({ facts }) => (
  <dl>
    {Object.entries(facts).map(([name, value]) => (
      <div key={name}>
        <dt>{name}</dt>
        <dd data-is={name}>{value ?? "–"}</dd>
      </div>
    ))}
  </dl>
);

/** A long id by its end, which is what differs. */
export const short = (id) => id && `${id.split("_")[0]}_…${id.slice(-8)}`;

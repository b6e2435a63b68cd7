// The table of cases.

export const registered = [];

/** Cases of a function of the client: by name, what is to be done; an assertion or any other error is a failure. */
export function cases(of, bodies, { limitMs } = {}) {
  for (const [name, body] of Object.entries(bodies)) registered.push({ function: of, name, body, limitMs });
}

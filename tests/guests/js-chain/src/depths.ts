// Recursion without end, through the engine's own stack: it must notice, and say so in a way that a program can catch.

/** How many calls fit, in plain calls and in calls from inside the engine's own functions, and what the program is told at the end. */
export function depths() {
  return { plain: until(plain), sorting: until(sorting), parsing: until(parsing) };
}

let calls = 0;

function until(recurse: () => unknown) {
  calls = 0;
  try {
    recurse();
  } catch (error) {
    return { calls, name: (error as Error).constructor.name, message: (error as Error).message };
  }
}

function plain(): number {
  calls++;
  return plain() + 1;
}

function sorting(): number {
  calls++;
  return [2, 1].sort(() => sorting())[0];
}

function parsing(): unknown {
  calls++;
  return JSON.parse("[1]", () => parsing());
}

// The command line: every figure on this page is the answer of a command, and every change one.

import { _ } from "./text.js";

export class Failed extends Error {
  // `language`: of the message; that of the command line is English, ours is the page's.
  constructor(code, message, language = null) {
    super(message);
    this.code = code;
    this.language = language;
  }
}

export const NO_PRIVILEGE = 4;
const NOT_FOUND = 7;
const NOT_INSTALLED = 127;

const options = { superuser: "try", err: "message", environ: ["LC_ALL=C.UTF-8"] };

// Returns standard output. Raises Failed with what the command said.
export async function run(words, { input = null, superuser = "try", accept = [] } = {}) {
  let output = "";
  const process = cockpit.spawn(["sentryfw", ...words], { ...options, superuser });
  process.stream(text => { output += text; });
  if (input !== null) process.input(input);
  try {
    await process;
  } catch (error) {
    if (accept.includes(error.exit_status) && output) return output;
    throw failure(error);
  }
  return output;
}

function failure(error) {
  if (error.problem === "not-found") return new Failed(NOT_INSTALLED, _("SentryFW is not installed on this host."));
  if (error.problem === "access-denied") return new Failed(NO_PRIVILEGE, _("This needs administrative access."));
  const code = error.exit_status ?? -1;
  const message = String(error.message || error.problem || "");
  if (!message) return new Failed(code, _("The command ended without a word."));
  return new Failed(code, message.replace(/^sentryfw: /, ""), "en");
}

// Commands that answer and also report a state by their exit code.
const STATES = [1, 3, 5, 6, NOT_FOUND, 78];

export async function ask(...words) {
  return JSON.parse(await run([...words, "--json"], { accept: STATES }));
}

export const change = (...words) => run(words, { superuser: "require" });

// Calls `use` with each object of a stream of lines, and `ended` with a Failed when it ends.
export function follow(words, use, ended) {
  let rest = "";
  const process = cockpit.spawn(["sentryfw", ...words], options);
  process.stream(text => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) use(JSON.parse(line));
  });
  process.then(() => ended(new Failed(0, _("The live figures ended."))))
    .catch(error => {
      if (error.problem === "cancelled") return;
      ended(failure(error));
    });
  return { close: () => process.close("cancelled") };
}

// The line of a TOML text that a fault of `check` is about.

// Returns the line of the key that a fault names ("detect.trigger: ...", "... (at line 3, ...)");
// -1 if it is not in the text.
export function faultyLine(text, fault) {
  const numbered = fault.match(/at line (\d+)/);
  if (numbered) return Number(numbered[1]) - 1;
  const named = fault.match(/(?:^|: )([a-z0-9_]+(?:\.[a-z0-9_]+)+): /i);
  if (!named) return -1;
  const words = named[1].split(".");
  const lines = text.split("\n");
  for (let depth = words.length - 1; depth > 0; depth -= 1) {
    const at = lineOf(lines, words.slice(0, depth).join("."), words[depth]);
    if (at !== -1) return at;
  }
  return -1;
}

function lineOf(lines, section, key) {
  let inside = "";
  return lines.findIndex(line => {
    inside = heading(line) ?? inside;
    const name = line.match(/^\s*"?([A-Za-z0-9_-]+)"?\s*=/);
    return inside === section && name !== null && name[1] === key;
  });
}

function heading(line) {
  const found = line.match(/^\s*\[\[?\s*([^\]]+?)\s*\]\]?/);
  return found ? found[1] : null;
}

// Numbers and times as a person reads them.

export const number = value => Number(value).toLocaleString("en");

export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.floor(left / 60)} min ${left % 60} s`;
  if (left < 86400) return `${Math.floor(left / 3600)} h ${Math.floor(left % 3600 / 60)} min`;
  return `${Math.floor(left / 86400)} d ${Math.floor(left % 86400 / 3600)} h`;
}

export function time(iso) {
  if (!iso) return "unknown";
  return new Date(iso).toLocaleString("sv-SE", {  // 2026-12-31 18:00:00, in the viewer's zone
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });
}

export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export const left = block => block.timeout_s ? duration(block.expires_in_s) : "forever";

// Numbers, times and sentences as a person reads them, in Cockpit's language.

// Catalogues are po.LANGUAGE.js, of web/cockpit-po. A text is one whole sentence or word, with $0 in
// places; the words of the command line stay English.
export const _ = cockpit.gettext;
export const format = cockpit.format;

const LANGUAGE = cockpit.language.replace("_", "-");

export const number = value => Number(value).toLocaleString(LANGUAGE);

export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  if (left < 60) return format(_("$0 s"), left);
  if (left < 3600) return format(_("$0 min $1 s"), Math.floor(left / 60), left % 60);
  if (left < 86400) return format(_("$0 h $1 min"), Math.floor(left / 3600), Math.floor(left % 3600 / 60));
  return format(_("$0 d $1 h"), Math.floor(left / 86400), Math.floor(left % 86400 / 3600));
}

export function time(iso) {
  if (!iso) return _("unknown");
  return new Date(iso).toLocaleString("sv-SE", {  // 2026-12-31 18:00:00, in the viewer's zone
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });
}

// `one` and `many`: the text for one, and for another count, which is $0.
export const counted = (count, one, many) => format(cockpit.ngettext(one, many, count), number(count));

export const left = block => block.timeout_s ? duration(block.expires_in_s) : _("forever");

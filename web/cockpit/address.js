// Addresses and networks: whether one contains the other, so that no action locks the viewer out.

import { _, format } from "./text.js";

function groups6(text) {
  const dotted = text.match(/^(.*:)(\d+\.\d+\.\d+\.\d+)$/);
  if (dotted) {
    const tail = number4(dotted[2]);
    if (tail === null) return null;
    text = `${dotted[1]}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}`;
  }
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = halves.map(half => half ? half.split(":") : []);
  const missing = 8 - head.length - (tail ? tail.length : 0);
  if (tail ? missing < 1 : missing !== 0) return null;
  const groups = tail ? [...head, ...Array(missing).fill("0"), ...tail] : head;
  return groups.every(group => /^[0-9a-f]{1,4}$/i.test(group)) ? groups : null;
}

function number4(text) {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every(part => /^\d{1,3}$/.test(part) && Number(part) < 256)) return null;
  return parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

// Returns { bits, value, length } of an address or network; null for other text. A mapped IPv4
// address is the IPv4 address.
export function parse(text) {
  const [address, bits, more] = text.trim().split("/");
  if (more !== undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return null;
  const bare = address.split("%")[0];
  if (!bare.includes(":")) {
    const value = number4(bare);
    return value === null ? null : sized(32, value, bits);
  }
  const groups = groups6(bare);
  if (groups === null) return null;
  const value = groups.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
  if (value >> 32n === 0xffffn && bits === undefined) return sized(32, value & 0xffffffffn, undefined);
  return sized(128, value, bits);
}

function sized(bits, value, length) {
  const prefix = length === undefined ? bits : Number(length);
  return prefix > bits ? null : { bits, value, length: prefix };
}

export const isNetwork = parsed => parsed.length < parsed.bits;

const isLoopback = ({ bits, value }) => bits === 32 ? value >> 24n === 127n : value === 1n;

// The source that a block of this address holds: an IPv6 address stands for its /64.
const asSource = parsed => parsed.bits === 128 && parsed.length > 64 ? { ...parsed, length: 64 } : parsed;

export function covers(network, address) {
  if (network.bits !== address.bits) return false;
  const rest = BigInt(network.bits - network.length);
  return address.length >= network.length && network.value >> rest === address.value >> rest;
}

// The reason why the page does not do it; null if it does. `peer`: the viewer's address as the
// bridge knows it, "" if unknown.
export function refusal(action, text, peer) {
  const what = parse(text);
  if (what === null) return format(_("$0 is neither an address nor a network"), text);
  const viewer = parse(peer);
  if (viewer === null || isLoopback(viewer)) {
    if (action === "block" || (action === "allow" && isNetwork(what))) {
      return _("This session does not show the address that you come from (a proxy, or a local login), so this page neither blocks nor allows networks: use the command line.");
    }
    return null;
  }
  if (action === "block" && covers(asSource(what), viewer)) return format(_("$0 contains $1, the address that you come from."), text, peer);
  if (action === "disallow" && covers(what, viewer)) return format(_("$0 contains $1, the address that you come from: remove it by the command line."), text, peer);
  return null;
}

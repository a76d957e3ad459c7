// What is shown, as an address: the query has the choices, the fragment the person's own texts, compressed.

import type { Centre, Scale, Units } from "../../views/reading.ts";
import type { Made, Term } from "../server.ts";

/** A direction of the sum, with its slider; what is muted keeps its weight. */
export interface Row extends Term {
  muted: boolean;
}

/** How the model is steered, as POST /api/v1/steer takes it. */
export interface Steer {
  prompt: string;
  strength: number;
  unit: "sd" | "stream" | "norm";
  on: "prompt" | "new" | "both";
  first: boolean; // position 0 too
  n_tokens: number;
  temperature: number;
  seed: number;
}

export const STEER: Steer = { prompt: "", strength: 4, unit: "sd", on: "both", first: false, n_tokens: 40, temperature: 0, seed: 0 };

export interface Shown {
  kind: string;
  layer: number | null;
  head: number | null;
  rows: readonly Row[]; // whose sum is shown
  beside: readonly Row[] | null; // another sum, shown beside it with the difference
  every: boolean; // whether every layer is shown at once
  against: string | null; // the text that the selected one is compared with
  free: boolean; // whether the sum is as long as it comes, not of length one
  mixing: boolean; // whether the sliders are open
  steer: Steer | null; // open or not
  ask: string | null; // what is asked of the direction, as its card has it: "explain", "causal_check", "causal_check:4" at another strength
  find: { by: "text" | "token" | "vector"; token: string } | null; // open or not
  units: Units;
  centre: Centre;
  scale: Scale;
  count: number; // sample texts shown
  order: "given" | "strongest" | number; // of the sample texts; a number is the seed of a draw
  selected: string | null; // "3" a sample text, "own.0" one's own
  pos: number | null; // the picked token of the selected text
}

export const SAMPLES = 20;
export const MOST = 500; // sample texts that are shown, and own texts that a link brings

export const component = (number: number): Made => ({ kind: "pca", component: number });
export const rowOf = (of: Made): Row => ({ weight: 1, of, muted: false });

/** The number of the component that is shown, where it is one of the site and nothing else. */
export function componentOf({ rows: [only, ...others] }: Pick<Shown, "rows">): number | null {
  return others.length === 0 && only.weight === 1 && !only.muted && only.of.kind === "pca" && only.of.site === undefined ? (only.of.component as number) : null;
}

export const START: Shown = { kind: "", layer: null, head: null, rows: [rowOf(component(0))], beside: null, every: false, against: null, free: false, mixing: false, steer: null, ask: null, find: null, units: "sd", centre: "mean", scale: { mode: "shared" }, count: SAMPLES, order: "given", selected: null, pos: null };

export type Place = Pick<Shown, "kind" | "layer" | "head">;

/** "embed", "resid_pre.3", "z.3:1" */
export const siteName = ({ kind, layer, head }: Place): string => `${kind}${layer === null ? "" : `.${layer}`}${head === null ? "" : `:${head}`}`;

/** The row of a river that a place lies in: its site, whatever the head. */
export const rowOfPlace = (place: string): string => place.split(":")[0];

export function readSite(name: string): Place | undefined {
  const [, kind, layer, head] = /^([a-z_0-9]+?)(?:\.(\d{1,5}))?(?::(\d{1,5}))?$/.exec(name) ?? [];
  return kind ? { kind, layer: layer === undefined ? null : Number(layer), head: head === undefined ? null : Number(head) } : undefined;
}

export function writeQuery(shown: Shown): URLSearchParams {
  const query = new URLSearchParams();
  query.set("site", siteName(shown));
  const number = componentOf(shown);
  if (number !== null) query.set("component", String(number));
  else query.set("along", writeRows(shown.rows));
  if (shown.beside) query.set("beside", writeRows(shown.beside));
  if (shown.every) query.set("layers", "all");
  if (shown.against !== null) query.set("against", shown.against);
  if (shown.free) query.set("free", "1");
  if (shown.mixing) query.set("mix", "1");
  if (shown.ask) query.set("ask", shown.ask);
  if (shown.find) query.set("find", shown.find.by === "token" ? `token:${shown.find.token}` : shown.find.by);
  if (shown.steer) query.set("steer", JSON.stringify(Object.fromEntries(Object.entries(shown.steer).filter(([name, value]) => value !== STEER[name as keyof Steer]))));
  if (shown.units !== START.units) query.set("units", shown.units);
  if (shown.centre !== START.centre) query.set("centre", shown.centre);
  if (shown.scale.mode !== "shared") query.set("scale", shown.scale.mode === "fixed" ? String(shown.scale.limit) : "text");
  if (shown.count !== SAMPLES) query.set("count", String(shown.count));
  if (shown.order !== START.order) query.set("order", String(shown.order));
  if (shown.selected !== null) query.set("text", shown.selected);
  if (shown.pos !== null) query.set("pos", String(shown.pos));
  return query;
}

/** Reads a query over `start`; `problems` has a sentence for each part that could not be read. */
export function readQuery(query: URLSearchParams, start: Shown): { shown: Shown; problems: string[] } {
  const problems: string[] = [];
  const shown = { ...start };
  const take = <T>(name: string, read: (text: string) => T | undefined, put: (value: T) => void): void => {
    const text = query.get(name);
    if (text === null) return;
    const value = read(text);
    if (value === undefined) problems.push(`The link says ${name}=${text}, which is not understood; it was left out.`);
    else put(value);
  };
  const index = (text: string): number | undefined => (/^\d{1,7}$/.test(text) ? Number(text) : undefined);
  const oneOf =
    <T extends string>(...options: T[]) =>
    (text: string): T | undefined =>
      options.find((option) => option === text);
  take("site", readSite, (place) => Object.assign(shown, place));
  take("component", index, (number) => (shown.rows = [rowOf(component(number))]));
  take("along", readRows, (rows) => (shown.rows = rows));
  take("beside", readRows, (rows) => (shown.beside = rows));
  take("layers", oneOf("all"), () => (shown.every = true));
  take("against", readKey, (key) => (shown.against = key));
  take("free", oneOf("1"), () => (shown.free = true));
  take("steer", readSteer, (steer) => (shown.steer = steer));
  take(
    "find",
    (text): Shown["find"] | undefined => (text === "text" || text === "vector" ? { by: text, token: "" } : text.startsWith("token:") ? { by: "token", token: text.slice(6) } : undefined),
    (find) => (shown.find = find),
  );
  take("ask", (text) => (readAsked(text) ? text : undefined), (ask) => (shown.ask = ask));
  take("mix", oneOf("1"), () => (shown.mixing = true));
  take("units", oneOf("sd", "stream"), (units) => (shown.units = units));
  take("centre", oneOf("mean", "none", "position"), (centre) => (shown.centre = centre));
  take(
    "scale",
    (text): Scale | undefined => (text === "text" || text === "shared" ? { mode: text } : Number(text) > 0 && Number.isFinite(Number(text)) ? { mode: "fixed", limit: Number(text) } : undefined),
    (scale) => (shown.scale = scale),
  );
  take("count", index, (count) => (shown.count = Math.max(1, Math.min(count, MOST))));
  take("order", (text): Shown["order"] | undefined => (text === "strongest" || text === "given" ? text : index(text)), (order) => (shown.order = order));
  take("text", readKey, (selected) => (shown.selected = selected));
  take("pos", index, (pos) => (shown.pos = pos));
  return { shown, problems };
}

function readSteer(text: string): Steer | undefined {
  try {
    const told: Record<string, unknown> = JSON.parse(text);
    const known = Object.entries(told).every(([name, value]) => name in STEER && typeof value === typeof STEER[name as keyof Steer]);
    return known ? { ...STEER, ...told } : undefined;
  } catch {
    return undefined;
  }
}

export interface Asked {
  path: "explain" | "causal_check";
  strength: number; // of a causal check, in standard deviations
}

const STRENGTH = 2;

/** "causal_check:4" */
export const writeAsked = ({ path, strength }: Asked): string => (path === "causal_check" && strength !== STRENGTH ? `${path}:${strength}` : path);

export function readAsked(text: string): Asked | undefined {
  const [, path, typed] = /^(explain|causal_check)(?::([\d.]+))?$/.exec(text) ?? [];
  const strength = Number(typed ?? STRENGTH);
  return path && strength >= 0.1 && strength <= 1000 ? { path: path as Asked["path"], strength } : undefined;
}

const readKey = (text: string): string | undefined => (/^(own\.)?\d{1,6}$/.test(text) ? text : undefined);

const writeRows = (rows: readonly Row[]): string => JSON.stringify(rows.map(({ weight, of, muted }) => (muted ? [weight, of, 0] : [weight, of])));

function readRows(text: string): Row[] | undefined {
  try {
    const rows = (JSON.parse(text) as [number, Made, 0?][]).map(([weight, of, muted]): Row => {
      if (!Number.isFinite(weight) || typeof of.kind !== "string") throw new Error("no row");
      return { weight, of, muted: muted === 0 };
    });
    return rows.length ? rows : undefined;
  } catch {
    return undefined;
  }
}

/** The texts of a file, split as the server splits its own: .jsonl, .json, or plain text with marks or empty lines between. */
export function splitTexts(content: string, name: string): string[] {
  const mark = "<|endoftext|>";
  const found: unknown[] = name.endsWith(".jsonl")
    ? content.split("\n").flatMap((line) => (line.trim() ? [JSON.parse(line).text] : []))
    : name.endsWith(".json")
      ? JSON.parse(content)
      : content.split(content.includes(mark) ? mark : "\n\n");
  if (!Array.isArray(found) || !found.every((text) => typeof text === "string")) throw new Error("It is no list of texts.");
  const texts = found.map((text) => text.replace(/^\n+|\n+$/g, "")).filter((text) => text.trim());
  if (!texts.length) throw new Error("It holds no text.");
  return texts;
}

async function through(bytes: Uint8Array<ArrayBuffer>, stream: GenericTransformStream): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/** Texts as a fragment: JSON, deflated, base64url. Empty for no texts. */
export async function writeFragment(texts: readonly string[]): Promise<string> {
  if (!texts.length) return "";
  const bytes = await through(new TextEncoder().encode(JSON.stringify(texts)), new CompressionStream("deflate-raw"));
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return `#texts=${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** The texts of a fragment; throws where it is cut or damaged. */
export async function readFragment(hash: string): Promise<string[]> {
  const code = /^#texts=(.*)$/.exec(hash)?.[1];
  if (!code) return [];
  const bytes = Uint8Array.from(atob(code.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  const texts: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await through(bytes, new DecompressionStream("deflate-raw"))));
  if (!Array.isArray(texts) || !texts.every((text) => typeof text === "string")) throw new Error("no list of texts");
  return texts;
}

// What a graph from a file was asked for, as the page Graph asks for it: then it can be tried, shown in a link, asked on.

import { ERROR, type Payload } from "../../views/graph/net.ts";
import { model } from "../session.ts";
import { server } from "../server.ts";
import type { Fields } from "./bench.ts";

interface Settings {
  model?: string;
  method?: string;
  kept?: Readonly<Record<string, unknown>>;
  paths?: string;
  grown?: { node: readonly [layer: number | string, feature: number, pos: number]; ways: string; n_steps: number | null };
  later?: boolean;
  competition?: boolean;
  integrated_gradients?: number;
  errors?: boolean;
  tokens?: boolean;
  split?: boolean;
  has_bos?: boolean;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

/** The texts that Python wrote one after the other, as ' Mary', "it's"; null where there is anything else. */
export function readTexts(code: string): string[] | null {
  const text = /(['"])((?:\\[^]|(?!\1)[^\\])*)\1/y;
  const found: string[] = [];
  while (text.lastIndex < code.length) {
    const match = text.exec(code);
    if (!match) return null;
    found.push(match[2].replace(/\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([^]))/g, (_, x, u, U, one) => (one === undefined ? String.fromCodePoint(Number.parseInt(x ?? u ?? U, 16)) : (ESCAPES[one] ?? one))));
    if (code.startsWith(", ", text.lastIndex)) text.lastIndex += 2;
  }
  return found;
}

/** The text of tokens as they are shown, where bytes that are no whole character stand as \xe6. */
export const joinPieces = (pieces: readonly string[]): string =>
  pieces.join("").replace(/(?:\\x[0-9a-f]{2})+/g, (bytes) => new TextDecoder().decode(Uint8Array.from(bytes.match(/[0-9a-f]{2}/g)!, (byte) => Number.parseInt(byte, 16))));

/** Which sites' dictionaries are the server's own, of its model: those of older files have no fingerprint. */
export async function findOwn({ settings, dictionaries }: Payload): Promise<string[]> {
  if ((settings as Settings).model !== model.peek()!.name) return [];
  const ours = await server.dictionaries();
  return dictionaries.filter(({ site, fingerprint }) => Object.hasOwn(ours, site) && [undefined, ours[site]].includes(fingerprint)).map(({ site }) => site);
}

/** What was asked for. Throws a sentence where this page cannot ask it of this server. */
export async function readAsked(payload: Payload, own: readonly string[]): Promise<Fields> {
  const { dictionaries, pieces, positions, python } = payload;
  const settings = payload.settings as Settings;
  const [facts, sites] = [model.peek()!, dictionaries.map(({ site }) => site)];
  if (settings.model !== facts.name) throw new Error(`It is a graph of ${settings.model}, and this server has ${facts.name}.`);
  const strange = sites.filter((site) => !own.includes(site));
  if (strange.length) throw new Error(`Its dictionaries of ${strange.join(", ")} are not this server's.`);
  const text = joinPieces(pieces.slice(settings.has_bos ? 1 : 0));
  const [tokens] = (await server.tokens([text])).texts;
  if (JSON.stringify(tokens.pieces) !== JSON.stringify(pieces)) throw new Error("Its prompt is none that this page can write.");
  const all = Object.keys(facts.dictionaries);
  return {
    text,
    ...readOutputs(payload),
    ...readRule(settings, python),
    ...(positions.length === pieces.length ? { positions: "all" } : positions.length === 1 && positions[0] === pieces.length - 1 ? { positions: "last" } : { positions: "at", at: positions.join(", ") }),
    sites: sites.length === all.length ? "" : sites.join(","),
    extra: [settings.errors && "errors", settings.tokens && "tokens"].filter(Boolean).join(" "),
  };
}

function readOutputs({ outputs }: Payload): Fields {
  if (!outputs.length) return { correct: "", wrong: "" };
  const [, kind, code] = /^rs\.(logit|logit_difference)\((.*), pos=-1\)$/s.exec(outputs[0]) ?? [];
  const texts = readTexts(code ?? "?");
  if (outputs.length > 1 || texts?.length !== (kind === "logit" ? 1 : 2)) throw new Error(`This page cannot ask for effects on ${outputs.join(", ")}.`);
  return { correct: texts[0], wrong: texts[1] ?? "" };
}

function readRule({ method, kept = {}, paths, grown, later, competition, integrated_gradients, split }: Settings, python: readonly string[]): Fields {
  const [call, ...then] = python.slice(python.findLastIndex((line) => /^graph = rs\.(causal|grow)_graph\(/.test(line)));
  const [, influence] = /^graph = graph\.prune\(edges=([\d.e-]+), by='influence'\)$/.exec(then.join()) ?? [];
  const made = [
    !grown && !(method === "exact" || method === "attribution") && `method=${method}`,
    !grown && !(paths === "any" || paths === "long") && `paths=${paths}`,
    later && "later=True",
    competition === false && "competition=False",
    integrated_gradients && `integrated_gradients=${integrated_gradients}`,
    / pinned=\[/.test(call) && "pinned nodes",
    grown && split && "split=True",
    grown && grown.n_steps !== null && `n_steps=${grown.n_steps}`,
    influence === undefined && then.length && `changed by ${then.join("; ")}`,
  ].filter(Boolean);
  if (made.length) throw new Error(`It was made in a way that this page cannot ask for: ${made.join(", ")}.`);
  if (grown) {
    const [layer, feature, pos] = grown.node;
    return { node: `${layer}.${feature === ERROR ? "error" : feature}@${pos}`, ways: grown.ways, rule: "top", amount: String(kept.top) };
  }
  const [[rule, amount]] = influence === undefined ? Object.entries(kept) : [["influence", influence]];
  return { method: method!, split: split ? "1" : "", paths: paths!, rule, amount: String(amount) };
}

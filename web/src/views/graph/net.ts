// A causal graph as the view reads it: its nodes and edges, which of them a share keeps, and what is shown as one.

import type { Tensor } from "../../arrays.ts";
import type { Named } from "../present.tsx";

export interface Dictionary {
  layer: number;
  site: string;
  writes: string;
  dictionary: string;
  n_features: number;
  source: string | null;
  fingerprint?: string; // which older files have not
  pages?: string | null; // at Neuronpedia, as "gpt2-small/8-res-jb"
}

export type Paths = "any" | "long";

/** How a graph's picture stands, where that is not as usual. */
export interface Stance {
  across?: "rows" | "columns";
  sign?: "source" | "ablation";
  paths?: Paths;
  output?: number; // whose effects are marked; as many as there are outputs: none
  picked?: string; // the key of an item
  limit?: number; // of colours
}

/** What people put on a graph, as its file keeps it. Nodes are called "5.10603@7", "5.error@7", "token@7". */
export interface Marks {
  keep?: number;
  pinned?: readonly string[];
  names?: Readonly<Record<string, string>>;
  notes?: Readonly<Record<string, string>>;
  groups?: Readonly<Record<string, readonly string[]>>;
  folded?: readonly number[];
  look?: Stance;
}

export const MARKS = ["keep", "pinned", "names", "notes", "groups", "folded"] as const;

export interface Payload extends Named {
  dictionaries: readonly Dictionary[];
  outputs: readonly string[];
  part_names: readonly string[];
  pieces: readonly string[];
  token_ids: readonly number[];
  positions: readonly number[];
  total: number;
  marks: Marks;
}

export type Arrays = Record<string, Tensor>;

export const TOKEN = -1; // as a level
export const ERROR = -1; // as a feature
const READABLE = [60, 100] as const; // edges that are chosen, and that are at most shown whole

export interface Net {
  payload: Payload;
  keys: readonly string[]; // what marks call each node
  numbers: ReadonlyMap<string, number>; // of those keys
  levels: Float32Array;
  features: Float32Array;
  pos: Float32Array;
  activations: Float32Array;
  effects: Tensor; // [node output]
  sources: Float32Array;
  targets: Float32Array;
  weights: Float32Array;
  before: Float32Array;
  parts: Tensor; // [edge part]
  order: Uint32Array; // edges, the largest first
  sums: Float64Array; // of the sizes, in that order
}

/** The marks of what a graph has: others may be of another graph that was looked at before. */
export function marksIn({ numbers, payload }: Net, { pinned, names, notes, groups, folded, ...rest }: Marks): Marks {
  const among = (keys: readonly string[]): string[] => keys.filter((key) => numbers.has(key));
  const some = (texts: Readonly<Record<string, string>>): Record<string, string> => Object.fromEntries(Object.entries(texts).filter(([key]) => numbers.has(key)));
  const layers = payload.dictionaries.map(({ layer }) => layer);
  return {
    ...rest,
    ...(pinned && { pinned: among(pinned) }),
    ...(names && { names: some(names) }),
    ...(notes && { notes: some(notes) }),
    ...(groups && { groups: Object.fromEntries(Object.entries(groups).map(([name, keys]) => [name, among(keys)] as const).filter(([, keys]) => keys.length)) }),
    ...(folded && { folded: folded.filter((layer) => layers.includes(layer)) }),
  };
}

/** Whether a layer has other dictionaries than one: then its nodes are told apart by what theirs reads. */
export const isShared = (dictionaries: readonly Dictionary[], { layer }: Dictionary): boolean => dictionaries.filter((other) => other.layer === layer).length > 1;

/** What of its layer a site is: "resid_mid" of "resid_mid.3". */
export const kindOf = (site: string): string => site.replace(/\.\d+$/, "");

/** How people write a layer's node; by its site where several dictionaries are of one layer. */
function placesOf(dictionaries: readonly Dictionary[]): string[] {
  return dictionaries.map((one) => (isShared(dictionaries, one) ? one.site : String(one.layer)));
}

export function readNet(payload: Payload, arrays: Arrays): Net {
  const [levels, features, pos] = ["levels", "features", "pos"].map((name) => arrays[name].data);
  const places = placesOf(payload.dictionaries);
  const keys = Array.from(levels, (level, i) => (level === TOKEN ? `token@${pos[i]}` : `${places[level]}.${features[i] === ERROR ? "error" : features[i]}@${pos[i]}`));
  const weights = arrays.values.data;
  const order = Uint32Array.from(weights.keys()).sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a]) || a - b);
  let sum = 0;
  return {
    payload,
    keys,
    numbers: new Map(keys.map((key, i) => [key, i])),
    levels,
    features,
    pos,
    activations: arrays.activations.data,
    effects: arrays.effects,
    sources: arrays.sources.data,
    targets: arrays.targets.data,
    weights,
    before: arrays.before.data,
    parts: arrays.parts,
    order,
    sums: Float64Array.from(order, (edge) => (sum += Math.abs(weights[edge]))),
  };
}

/** How many of the largest edges have a share of the summed size: the fewest. */
export function countKept({ sums }: Net, share: number): number {
  if (share >= 1) return sums.length;
  const wanted = share * (sums.at(-1) ?? 0);
  let [low, high] = [0, sums.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return Math.min(low + 1, sums.length);
}

/** The share at which a graph can be read at first, in hundredths. */
export function usualShare({ sums }: Net): number {
  if (sums.length <= READABLE[1]) return 1;
  return Math.max(0.01, Math.floor((100 * sums[READABLE[0] - 1]) / sums[sums.length - 1]) / 100);
}

/** The edges that `Graph.prune` keeps, largest first: of what is pinned, those between are among them. */
export function prune(net: Net, share: number, paths: Paths, pinned: readonly string[] = []): Uint32Array {
  const { sources, targets, order } = net;
  const n = countKept(net, share);
  const held = new Set(pinned.map((key) => net.numbers.get(key)));
  const [reached, leaving] = [new Set<number>(), new Set<number>()];
  for (const edge of order.subarray(0, n)) {
    reached.add(targets[edge]);
    leaving.add(sources[edge]);
  }
  return order.filter((edge, i) => (i < n && (paths === "any" || reached.has(sources[edge]) || leaving.has(targets[edge]))) || (held.has(sources[edge]) && held.has(targets[edge])));
}

/** One box of the picture: a node, or several that are shown as one. */
export interface Item {
  key: string; // of its node; "group:name", "layer:2"
  kind: "feature" | "error" | "token" | "group" | "layer";
  level: number;
  pos: number;
  nodes: readonly number[];
}

/** All edges from one item to another: their sum, and which they are. */
export interface Link {
  from: number; // items
  to: number;
  weight: number;
  edges: number[];
}

export interface Scene {
  items: readonly Item[];
  links: readonly Link[]; // the weakest first
  edges: Uint32Array;
  n_nodes: number;
  into: readonly (readonly number[])[]; // links, of each item
  from: readonly (readonly number[])[];
}

/** Which items there are, and how they are joined. Nodes stay where an edge or a mark keeps them. */
export function makeScene(net: Net, edges: Uint32Array, marks: Marks): Scene {
  const { keys, levels, features, pos, payload } = net;
  const shown = new Set<number>();
  for (const edge of edges) shown.add(net.sources[edge]).add(net.targets[edge]);
  const numbersOf = (named: readonly string[]): number[] => named.map((key) => net.numbers.get(key)).filter((node) => node !== undefined);
  for (const node of numbersOf(marks.pinned ?? [])) shown.add(node);
  const n_nodes = shown.size;
  for (const node of numbersOf(Object.values(marks.groups ?? {}).flat())) shown.add(node);
  const items: Item[] = [];
  const itemOf = new Map<number, number>();
  const put = (item: Item): void => {
    for (const node of item.nodes) itemOf.set(node, items.length);
    items.push(item);
  };
  for (const [name, named] of Object.entries(marks.groups ?? {})) {
    const nodes = numbersOf(named).filter((node) => !itemOf.has(node));
    if (!nodes.length) continue;
    const heights = nodes.map((node) => levels[node]).sort((a, b) => a - b);
    put({ key: `group:${name}`, kind: "group", level: heights[heights.length >> 1], pos: pos[nodes[0]], nodes });
  }
  const rest = [...shown].filter((node) => !itemOf.has(node)).sort((a, b) => a - b);
  for (const layer of new Set(marks.folded)) {
    const nodes = rest.filter((node) => levels[node] !== TOKEN && payload.dictionaries[levels[node]].layer === layer);
    if (nodes.length) put({ key: `layer:${layer}`, kind: "layer", level: levels[nodes[0]], pos: pos[nodes[0]], nodes });
  }
  for (const node of rest)
    if (!itemOf.has(node)) put({ key: keys[node], kind: levels[node] === TOKEN ? "token" : features[node] === ERROR ? "error" : "feature", level: levels[node], pos: pos[node], nodes: [node] });
  const joined = new Map<number, Link>();
  for (const edge of edges) {
    const [from, to] = [itemOf.get(net.sources[edge])!, itemOf.get(net.targets[edge])!];
    if (from === to) continue;
    const key = from * items.length + to;
    const link = joined.get(key) ?? { from, to, weight: 0, edges: [] };
    link.weight += net.weights[edge];
    link.edges.push(edge);
    joined.set(key, link);
  }
  const links = [...joined.values()].sort((a, b) => Math.abs(a.weight) - Math.abs(b.weight));
  const into = items.map((): number[] => []);
  const from = items.map((): number[] => []);
  links.forEach((link, i) => {
    into[link.to].push(i);
    from[link.from].push(i);
  });
  return { items, links, edges, n_nodes, into, from };
}

/** All paths through an item: the items and links before and behind it. */
export function pathsThrough({ items, links, into, from }: Scene, item: number): { items: Set<number>; links: Set<number> } {
  const found = { items: new Set([item]), links: new Set<number>() };
  const walk = (next: Scene["into"], end: "from" | "to"): void => {
    const [seen, left] = [new Set([item]), [item]];
    while (left.length)
      for (const link of next[left.pop()!]) {
        found.links.add(link);
        const other = links[link][end];
        if (seen.has(other)) continue;
        seen.add(other);
        found.items.add(other);
        left.push(other);
      }
  };
  if (item < items.length) {
    walk(into, "from");
    walk(from, "to");
  }
  return found;
}

/** What a search finds, by a feature's number, the token that it is at, a name or a note: items, and nodes that are in none, the most active first. */
export function find(net: Net, scene: Scene, marks: Marks, words: string): { items: number[]; cut: number[] } {
  const wanted = words.trim().toLowerCase().replaceAll("·", " ");
  if (!wanted) return { items: [], cut: [] };
  const several = net.payload.positions.length > 1; // else all are at one token
  const says = (node: number): string[] => {
    const key = net.keys[node];
    return [key, marks.names?.[key] ?? "", marks.notes?.[key] ?? "", several || net.levels[node] === TOKEN ? net.payload.pieces[net.pos[node]] : ""];
  };
  const holds = (texts: readonly string[]): boolean => texts.some((text) => text.toLowerCase().includes(wanted));
  const shown = new Set(scene.items.flatMap(({ nodes }) => nodes));
  return {
    items: scene.items.flatMap((item, i) => (holds([...(item.kind === "group" ? [item.key.slice(6)] : []), ...item.nodes.flatMap(says)]) ? [i] : [])),
    cut: net.keys.flatMap((_, node) => (!shown.has(node) && holds(says(node)) ? [node] : [])).sort((a, b) => net.activations[b] - net.activations[a] || a - b),
  };
}

/** How a node is shown whatever is cut: it is pinned, and one item has it. */
export function bringUp({ keys, levels, payload }: Net, { pinned = [], groups = {}, folded = [] }: Marks, node: number): { pinned: readonly string[]; item: string } {
  const key = keys[node];
  const [group] = Object.entries(groups).find(([, members]) => members.includes(key)) ?? [];
  if (group !== undefined) return { pinned, item: `group:${group}` };
  const layer = levels[node] === TOKEN ? null : payload.dictionaries[levels[node]].layer;
  return { pinned: [...pinned.filter((one) => one !== key), key], item: layer !== null && folded.includes(layer) ? `layer:${layer}` : key };
}

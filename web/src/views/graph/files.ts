// A graph as files: our own JSON with its marks, Graphviz, the JSON of attribution graphs, a table; as residscope.graphs.file writes them.

import { type Tensor, writeArrays } from "../../arrays.ts";
import { saveFile } from "../files.ts";
import { type Dictionary, ERROR, kindOf, type Marks, type Net, type Paths, type Scene, TOKEN } from "./net.ts";

export const FORMAT = { format: "residscope graph", version: 1 } as const;

type Row = (string | number)[];

const quoted = (value: unknown): string => JSON.stringify(value);

/** Python's word for what JSON has, of texts, numbers and lists. */
const inPython = (value: unknown): string => quoted(value).replaceAll('":', '": ');

export function toJson({ payload, ...net }: Net, marks: Marks): string {
  const { view: _view, axes: _axes, ...plain } = payload as unknown as Record<string, unknown>;
  const part = (data: Float32Array, width: number, row: number): number[] => Array.from(data.subarray(row * width, (row + 1) * width));
  return `${JSON.stringify(
    {
      ...plain,
      ...FORMAT,
      marks,
      dtype: "float32",
      nodes: net.keys.map((_, i) => ({ level: net.levels[i], feature: net.features[i], pos: net.pos[i], activation: net.activations[i], effects: part(net.effects.data, net.effects.shape[1], i) })),
      edges: Array.from(net.weights, (weight, i) => ({ source: net.sources[i], target: net.targets[i], weight, before: net.before[i], parts: part(net.parts.data, net.parts.shape[1], i) })),
    },
    null,
    1,
  )}\n`;
}

interface File {
  format: string;
  version: number;
  marks?: Marks; // which older files have not
  nodes: { level: number; feature: number; pos: number; activation: number; effects: number[] }[];
  edges: { source: number; target: number; weight: number; before: number; parts: number[] }[];
}

/** The bytes of the graph that `toJson` or Python wrote. */
export function fromJson(text: string): Uint8Array<ArrayBuffer> {
  const { format, version, nodes, edges, marks = {}, ...plain } = JSON.parse(text) as File;
  if (format !== FORMAT.format || version !== FORMAT.version) throw new Error(`It says format ${quoted(format)} of version ${quoted(version)}, and known is ${quoted(FORMAT.format)} of version ${FORMAT.version}.`);
  for (const [name, rows] of Object.entries({ nodes, edges })) if (!Array.isArray(rows) || !rows.every((row) => typeof row === "object" && row !== null)) throw new Error(`Its ${name} are no list of rows.`);
  const column = (values: number[]): Tensor => ({ shape: [values.length], data: Float32Array.from(values, (value) => (typeof value === "number" ? value : NaN)) });
  const wide = (rows: number[][], names: unknown): Tensor => ({ shape: [rows.length, (names as unknown[] | undefined)?.length ?? 0], data: column(rows.flat()).data });
  const { outputs, part_names } = plain as unknown as Net["payload"];
  return writeArrays({
    payload: { ...plain, marks, view: "graph" },
    arrays: {
      levels: column(nodes.map(({ level }) => level)),
      features: column(nodes.map(({ feature }) => feature)),
      pos: column(nodes.map(({ pos }) => pos)),
      activations: column(nodes.map(({ activation }) => activation)),
      effects: wide(nodes.map(({ effects }) => effects), outputs),
      sources: column(edges.map(({ source }) => source)),
      targets: column(edges.map(({ target }) => target)),
      values: column(edges.map(({ weight }) => weight)),
      before: column(edges.map(({ before }) => before)),
      parts: wide(edges.map(({ parts }) => parts), part_names),
    },
  });
}

/** The nodes of some edges, and the edges with their ends among these. */
function take(net: Net, edges: Uint32Array): { nodes: number[]; edges: number[] } {
  const nodes = [...new Set([...edges].flatMap((edge) => [net.sources[edge], net.targets[edge]]))].sort((a, b) => a - b);
  return { nodes, edges: [...edges].sort((a, b) => a - b) };
}

const labelOf = (net: Net, node: number): string => (net.levels[node] === TOKEN ? `token ${net.pos[node]} '${net.payload.pieces[net.pos[node]]}'` : net.keys[node]);

export function toDot(net: Net, kept: Uint32Array, marks: Marks): string {
  const { nodes, edges } = take(net, kept);
  const largest = edges.reduce((most, edge) => Math.max(most, Math.abs(net.weights[edge])), 0) || 1;
  const numberOf = new Map(nodes.map((node, i) => [node, i]));
  const named = (node: number): string => [labelOf(net, node), marks.names?.[net.keys[node]]].filter(Boolean).join("\n");
  const clusters = Object.entries(marks.groups ?? {}).map(([name, members], i) => {
    const own = members.map((key) => numberOf.get(net.numbers.get(key)!)).filter((number) => number !== undefined);
    return `  subgraph cluster_${i} { label=${quoted(name)}; ${own.map((number) => `n${number}`).join("; ")} }`;
  });
  return [
    "digraph {",
    "  rankdir=BT",
    "  node [shape=box]",
    ...nodes.map((node) => `  n${numberOf.get(node)} [label=${quoted(named(node))}]`),
    ...clusters,
    ...edges.map((edge) => {
      const value = net.weights[edge];
      return `  n${numberOf.get(net.sources[edge])} -> n${numberOf.get(net.targets[edge])} [color=${value > 0 ? "blue" : "red"} penwidth=${(0.3 + (3 * Math.abs(value)) / largest).toFixed(2)} label=${quoted(String(Number(value.toPrecision(3))))}]`;
    }),
    "}",
    "",
  ].join("\n");
}

/** Where Neuronpedia has pages of all dictionaries: it looks for those of layer 5 at "{model}/5-{source_set}". */
function pagesOf(dictionaries: readonly Dictionary[]): { model: string; source_set: string } | null {
  const there = new Set(dictionaries.map(({ layer, pages }) => pages?.replace(`/${layer}-`, "/")));
  const [, model, source_set] = /^([^/]+)\/(.+)$/.exec([...there][0] ?? "") ?? [];
  return there.size === 1 && model ? { model, source_set } : null;
}

/** As JSON that Neuronpedia and circuit-tracer read: what is pinned, named and grouped among it. */
export function toAttributionGraph(net: Net, kept: Uint32Array, marks: Marks): unknown {
  const { payload } = net;
  const { nodes, edges } = take(net, kept);
  const layerOf = (node: number): number => (net.levels[node] === TOKEN ? -1 : payload.dictionaries[net.levels[node]].layer);
  const last = Math.max(...payload.dictionaries.map(({ layer }) => layer));
  // Where a layer has several dictionaries, what the later ones read tells their nodes from those of the first: "1_8_7_mlp_out".
  const suffixes = payload.dictionaries.map(({ layer, site }, level) => (payload.dictionaries.findIndex((one) => one.layer === layer) < level ? `_${kindOf(site)}` : ""));
  const idOf = (node: number): string => (net.levels[node] === TOKEN ? `E_${net.features[node]}_${net.pos[node]}` : `${layerOf(node)}_${net.features[node]}_${net.pos[node]}${suffixes[net.levels[node]]}`);
  const make = (node_id: string, pos: number, feature: number, layer: string, feature_type: string, clerp: string, activation: number | null = null) => ({
    node_id,
    feature,
    layer,
    ctx_idx: pos,
    feature_type,
    jsNodeId: node_id,
    clerp,
    activation,
  });
  const made = nodes.map((node) => {
    const [layer, feature, pos, id, key] = [layerOf(node), net.features[node], net.pos[node], idOf(node), net.keys[node]];
    const name = marks.names?.[key];
    if (net.levels[node] === TOKEN) return make(id, pos, pos, "E", "embedding", name ?? "");
    if (feature === ERROR) return make(id, pos, feature, String(layer), "mlp reconstruction error", name ?? `Err: ${key}`);
    // Cantor's pairing, as the readers take it apart.
    return make(id, pos, ((layer + feature) * (layer + feature + 1)) / 2 + feature, String(layer), "cross layer transcoder", name ?? "", net.activations[node]);
  });
  const links = edges.map((edge) => ({ source: idOf(net.sources[edge]), target: idOf(net.targets[edge]), weight: net.weights[edge] }));
  const feeding = nodes.filter((node) => net.levels[node] === payload.dictionaries.length - 1);
  payload.outputs.forEach((name, number) => {
    const at = payload.pieces.length - 1;
    const output = make(`${last + 1}_${number}_${at}`, at, number, String(last + 1), "logit", `${name} (p=?)`);
    for (const node of feeding) links.push({ source: idOf(node), target: output.node_id, weight: net.effects.data[node * net.effects.shape[1] + number] });
    made.push(output);
  });
  const there = new Set(nodes);
  const idsOf = (keys: readonly string[]): string[] => keys.map((key) => net.numbers.get(key)).filter((node) => node !== undefined && there.has(node)).map((node) => idOf(node!));
  const known = pagesOf(payload.dictionaries);
  const slug = (text: string): string => text.replace(/[^a-zA-Z0-9_.-]+/g, "-").replace(/^-+|-+$/g, "") || "graph";
  return {
    metadata: {
      slug: slug(payload.name),
      scan: known ? known.model : slug(payload.name.split(" by ").at(-1)!),
      schema_version: 1,
      ...(known && { feature_details: { neuronpedia_source_set: known.source_set } }),
      transcoder_list: payload.dictionaries.map(({ dictionary }) => dictionary),
      prompt_tokens: payload.pieces,
      prompt: payload.pieces.join(""),
      info: { description: payload.name, generator: { name: "Residscope" } },
      generation_settings: payload.settings,
    },
    qParams: { linkType: "both", pinnedIds: idsOf(marks.pinned ?? []), clickedId: "", supernodes: Object.entries(marks.groups ?? {}).map(([name, keys]) => [name, ...idsOf(keys)]), sg_pos: "" },
    nodes: made,
    links,
  };
}

/** One row an edge, as `graph.to_frame()`. */
export function toTable(net: Net, edges: Uint32Array): Row[] {
  const { dictionaries, part_names } = net.payload;
  const end = (node: number): number[] => [net.levels[node] === TOKEN ? -1 : dictionaries[net.levels[node]].layer, net.features[node], net.pos[node]];
  const width = net.parts.shape[1];
  return [
    ["layer", "feature", "pos", "target_layer", "target_feature", "target_pos", "before", ...part_names, "value"],
    ...take(net, edges).edges.map((edge) => [...end(net.sources[edge]), ...end(net.targets[edge]), net.before[edge], ...net.parts.data.subarray(edge * width, (edge + 1) * width), net.weights[edge]]),
  ];
}

export function filesOf(net: Net, { edges }: Scene, marks: Marks, keep: number, paths: Paths) {
  const { payload } = net;
  const save = (text: string, type: string, extension: string) => (): string => `${saveFile(new Blob([text], { type }), payload.name, extension)} saved`;
  const given = Object.entries(marks).filter(([, value]) => (Array.isArray(value) ? value.length : typeof value !== "object" || Object.keys(value).length));
  const marked = given.length ? [`graph = graph.mark(${given.map(([name, value]) => `${name}=${inPython(value)}`).join(", ")})`] : [];
  return {
    python: [...payload.python, ...marked, `graph.prune(edges=${keep}, paths=${quoted(paths)})`],
    get table() {
      return toTable(net, edges);
    },
    tools: [
      ["JSON", "Save the graph with everything put on it, for rs.open and for Open", () => save(toJson(net, marks), "application/json", "json")()],
      ["DOT", "Save what is shown for Graphviz", () => save(toDot(net, edges, marks), "text/vnd.graphviz", "dot")()],
      ["Attribution graph", "Save what is shown as JSON that Neuronpedia and circuit-tracer read", () => save(JSON.stringify(toAttributionGraph(net, edges, marks)), "application/json", "attribution.json")()],
    ] as const,
  };
}

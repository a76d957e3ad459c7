// Whether a file holds a graph: what `rs.open` refuses is refused here too, with the row that is wrong.

import { parseArrays } from "../../arrays.ts";
import { below, type Check, fieldsOf, isList, isNumber, isRecordOf, isText, oneOf, someOf } from "../look.ts";
import { fromJson } from "./files.ts";
import { type Arrays, ERROR, type Payload, TOKEN } from "./net.ts";

const isWhole: Check = Number.isInteger;

const FORMS: Readonly<Record<string, Check>> = {
  name: isText,
  settings: isRecordOf(() => true),
  python: isList(isText),
  dictionaries: isList(fieldsOf({ layer: isWhole, site: isText, dictionary: isText, n_features: isWhole })),
  outputs: isList(isText),
  part_names: isList(isText),
  pieces: isList(isText),
  positions: isList(isWhole),
  total: isNumber,
  marks: someOf({
    keep: (value) => isNumber(value) && (value as number) > 0 && (value as number) <= 1,
    pinned: isList(isText),
    names: isRecordOf(isText),
    notes: isRecordOf(isText),
    groups: isRecordOf(isList(isText)),
    folded: isList(isWhole),
    look: someOf({ across: oneOf("rows", "columns"), sign: oneOf("source", "ablation"), paths: oneOf("any", "long"), output: below(Infinity), picked: isText, limit: (value) => isNumber(value) && (value as number) > 0 }),
  }),
};

/** Throws a sentence where rows or facts are none that a graph has. */
export function checkGraph(payload: Payload, arrays: Arrays): void {
  for (const [name, check] of Object.entries(FORMS)) if (!check(payload[name as keyof Payload])) throw new Error(`The file's ${name} are ${(JSON.stringify(payload[name as keyof Payload]) ?? "missing").slice(0, 80)}.`);
  const { dictionaries, pieces, total } = payload;
  const [levels, features, pos, activations] = ["levels", "features", "pos", "activations"].map((name) => columnOf(arrays, name));
  const [sources, targets, values, before] = ["sources", "targets", "values", "before"].map((name) => columnOf(arrays, name));
  const [effects, parts] = [rowsOf(arrays, "effects", levels.length, payload.outputs.length), rowsOf(arrays, "parts", values.length, payload.part_names.length)];
  const refuse = (what: string, row: number, says: string): never => {
    throw new Error(`The file's ${what} ${row} ${says}.`);
  };
  const inside = (value: number, least: number, end: number): boolean => Number.isInteger(value) && value >= least && value < end;
  const seen = new Set<string>();
  const isNew = (key: string): boolean => seen.size < seen.add(key).size;
  levels.forEach((level, node) => {
    if (!inside(level, TOKEN, dictionaries.length)) refuse("node", node, "is of no dictionary");
    if (!inside(pos[node], 0, pieces.length)) refuse("node", node, "is at no position of the prompt");
    if (!inside(features[node], ERROR, level === TOKEN ? Infinity : dictionaries[level].n_features)) refuse("node", node, "is no feature of its dictionary");
    if (![activations[node], ...effects(node)].every(Number.isFinite)) refuse("node", node, "has no finite numbers");
    if (!isNew(`${level} ${features[node]} ${pos[node]}`)) refuse("node", node, "stands there twice");
  });
  seen.clear();
  let sum = 0;
  values.forEach((value, edge) => {
    const [source, target] = [sources[edge], targets[edge]];
    if (!inside(source, 0, levels.length) || !inside(target, 0, levels.length)) refuse("edge", edge, "has no ends");
    if (![value, before[edge], ...parts(edge)].every(Number.isFinite)) refuse("edge", edge, "has no finite numbers");
    if (levels[source] >= levels[target]) refuse("edge", edge, "leads to no later dictionary");
    if (!isNew(`${source} ${target}`)) refuse("edge", edge, "stands there twice");
    sum += Math.abs(value);
  });
  if (!(sum <= total * (1 + 1e-6))) throw new Error(`The file's total is ${total}, and its weights sum to ${sum.toPrecision(4)}.`);
}

function columnOf(arrays: Arrays, name: string): Float32Array {
  if (arrays[name]?.shape.length !== 1) throw new Error(`The file has no ${name}.`);
  return arrays[name].data;
}

function rowsOf(arrays: Arrays, name: string, n: number, width: number): (row: number) => Float32Array {
  const { shape, data } = arrays[name] ?? { shape: [], data: new Float32Array() };
  if (shape[0] !== n || shape[1] !== width || data.length !== n * width) throw new Error(`The file's ${name} are ${shape.join(" by ")}, and ${n} by ${width} belong there.`);
  return (row) => data.subarray(row * width, (row + 1) * width);
}

/** The bytes of what a file holds, our own JSON or safetensors; a graph is checked. */
export function readFile(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const data = bytes[0] === 0x7b ? fromJson(new TextDecoder().decode(bytes)) : bytes; // "{"
  const { payload, arrays } = parseArrays<(Payload & { view: string }) | null>(data);
  if (payload?.view === "graph") checkGraph(payload, arrays);
  return data;
}

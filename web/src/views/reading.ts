// What the views show: projections of tokens on one direction, in the unit and on the centre that were chosen.

import { type Arrays, type Bytes, parseArrays } from "../arrays.ts";
import type { Model } from "../host.ts";
import { percentile, signed } from "../numbers.ts";

export interface Payload {
  view: "coloured_text" | "river";
  name: string; // "PCA 4 of resid_pre.3"
  site?: string;
  pieces: string[][]; // [batch pos]
  special: boolean[][];
  deviation: number | null; // standard deviation along the direction, where it is known
  offset: number; // mean . v
  centred: boolean;
  left_out: number[]; // positions that are not coloured
  centre?: Centre; // of the values as they come: the mean, where nothing is said
  by_position?: ArrayLike<number> | null; // [pos] what each position's mean has along the direction, less the offset
  rows?: string[]; // river: site of each layer, lowest first
  here?: number; // river: the row the direction is from; -1 where none is
}

export type Units = "stream" | "sd";
export type Centre = "mean" | "none" | "position";
export type Scale = { mode: "shared" } | { mode: "text" } | { mode: "fixed"; limit: number };
export type Picked = { text: number; pos: number } | null;

export interface Reading {
  payload: Payload;
  shape: number[]; // [batch pos] or [batch layer pos]
  values: Float32Array; // as shown; NaN where a shorter text is padded
  units: Units;
  centre: Centre;
  scale: Scale;
}

/** Projections in units of the stream, as they are shown; rows of `width` positions, one after the other. */
export function shownValues(raw: Float32Array, payload: Pick<Payload, "deviation" | "offset" | "by_position" | "centre">, units: Units, centre: Centre, width = raw.length): Float32Array {
  const { deviation, offset, by_position } = payload;
  const factor = units === "sd" && deviation ? 1 / deviation : 1;
  const above = (one: Centre, pos: number): number => (one === "none" ? -offset : one === "position" ? (by_position?.[pos] ?? 0) : 0); // what it takes off more than the mean
  return raw.map((value, i) => (value + above(payload.centre ?? "mean", i % width) - above(centre, i % width)) * factor);
}

const parsed = new WeakMap<object, Arrays<Payload>>();

function parseOnce(data: Bytes): Arrays<Payload> {
  const known = parsed.get(data) ?? parseArrays<Payload>(data);
  parsed.set(data, known);
  return known;
}

/** Reads the keys of a view's model; `values` and `payload`, where set, replace what `data` has. */
export function readModel(model: Model): Reading {
  const { payload: own, arrays } = parseOnce(model.get("data"));
  const payload: Payload = { ...own, ...(model.get("payload") as Partial<Payload> | undefined) };
  const units: Units = payload.deviation === null ? "stream" : (model.get("units") ?? "sd");
  const own_centre = payload.centre ?? "mean";
  const centre: Centre = payload.centred ? (model.get("centre") ?? own_centre) : own_centre;
  const raw = (model.get("values") as Float32Array | undefined) ?? arrays.values.data;
  return { payload, shape: arrays.values.shape, values: shownValues(raw, payload, units, centre, arrays.values.shape.at(-1)), units, centre, scale: model.get("scale") ?? { mode: "shared" } };
}

/** The end of a colour range: the 99th percentile of |value| over rows of positions; left-out positions and padding do not count. */
export function colourLimit(rows: readonly Float32Array[], leftOut: readonly number[]): number {
  const sizes = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let n = 0;
  for (const row of rows)
    for (let pos = 0; pos < row.length; pos++) if (!Number.isNaN(row[pos]) && !leftOut.includes(pos)) sizes[n++] = Math.abs(row[pos]);
  const limit = percentile(sizes.subarray(0, n), 0.99);
  return limit > 0 ? limit : 1;
}

export const unitName = (units: Units): string => (units === "sd" ? "sd" : "units");

export const valueText = (value: number, units: Units): string => `${signed(value)} ${unitName(units)}`;

/** The place of a value among those of its text, the highest first, from 1. */
export function rankOf(values: Float32Array, value: number): number {
  let rank = 1;
  for (const other of values) if (other > value) rank++;
  return rank;
}

/** A piece on one line with its spaces visible. */
export const visiblePiece = (piece: string): string => piece.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍");

/** Calls back once for any number of changes of these keys in one task; the answer ends it. */
export function watch(model: Model, keys: string[], callback: () => void): () => void {
  let waiting = false;
  let over = false;
  const changed = (): void => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      if (!over) callback();
    });
  };
  for (const key of keys) model.on(`change:${key}`, changed);
  return () => {
    over = true;
    for (const key of keys) model.off(`change:${key}`, changed);
  };
}

// A sum of directions: everything of it follows from each one's cosines to the components of the site, so no request is made.

import { plain } from "../../numbers.ts";
import type { DirectionFacts, Pca } from "../server.ts";
import type { Row } from "./address.ts";

export interface Sum {
  name: string;
  length: number; // of the sum of weighted unit vectors
  cosines: Float64Array; // of its direction to every component
  deviation: number | null; // along its direction
  offset: number; // of its direction: mean . v
  left_out: number[];
  share: number; // of the variance of the site
}

const LEAST = 1e-9; // a sum shorter than this share of its parts is rounding

export const sounding = (rows: readonly Row[]): Row[] => rows.filter(({ weight, muted }) => !muted && weight !== 0);

/** The sum of so much of each; null where nothing is left. */
export function sumOf(rows: readonly Row[], facts: readonly DirectionFacts[], pca: Pca): Sum | null {
  const cosines = new Float64Array(pca.shares.length);
  let parts = 0;
  rows.forEach(({ weight }, i) => {
    parts += Math.abs(weight);
    facts[i].cosines.forEach((cosine, j) => (cosines[j] += weight * cosine));
  });
  const length = Math.hypot(...cosines);
  if (!(length > LEAST * parts)) return null;
  for (let j = 0; j < cosines.length; j++) cosines[j] /= length;
  const [only] = facts;
  const alone = rows.length === 1;
  const over = (values: readonly number[]): number => cosines.reduce((sum, cosine, j) => sum + cosine * cosine * values[j], 0);
  const deviation = alone ? only.deviation : Math.sqrt(over(pca.deviations.map((one) => one * one)));
  return {
    name: alone && rows[0].weight > 0 ? only.name : rows.map(({ weight }, i) => `${i || weight < 0 ? (weight < 0 ? "−" : "+") : ""} ${plain(Math.abs(weight))} (${facts[i].name})`.trim()).join(" "),
    length,
    cosines,
    deviation: deviation || null,
    offset: rows.reduce((sum, { weight }, i) => sum + weight * facts[i].offset, 0) / length,
    left_out: [...new Set(facts.flatMap(({ left_out }) => left_out))].sort((a, b) => a - b),
    share: over(pca.shares),
  };
}

/** Values on the sum, from those on its parts: over its length, or `free`. */
export function addUp(rows: readonly Row[], parts: readonly Float32Array[], { length }: Sum, free: boolean): Float32Array {
  const over = free ? 1 : length;
  if (rows.length === 1 && rows[0].weight === over) return parts[0];
  const out = new Float32Array(parts[0].length);
  rows.forEach(({ weight }, i) => {
    const factor = weight / over;
    const part = parts[i];
    for (let pos = 0; pos < out.length; pos++) out[pos] += factor * part[pos];
  });
  return out;
}

type Vectors = readonly (readonly number[])[];

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, value, j) => sum + value * b[j], 0);

/** Gram-Schmidt: of the vectors of these numbers unit ones at right angles, and the weights of all that make each; what lies within those before is left out. */
function orthonormalize(vectors: Vectors, numbers: readonly number[]): { vector: number[]; weights: number[] }[] {
  const basis: { vector: number[]; weights: number[] }[] = [];
  for (const number of numbers) {
    let vector = [...vectors[number]];
    let weights: number[] = vectors.map((_, j) => (j === number ? 1 : 0));
    for (const one of basis) {
      const along = dot(vector, one.vector);
      vector = vector.map((value, j) => value - along * one.vector[j]);
      weights = weights.map((value, j) => value - along * one.weights[j]);
    }
    const length = Math.hypot(...vector);
    if (length >= 1e-6) basis.push({ vector: vector.map((value) => value / length), weights: weights.map((value) => value / length) });
  }
  return basis;
}

/** The weights of each of an orthonormal basis of some directions, in their order. */
export const basisOf = (facts: readonly DirectionFacts[]): number[][] =>
  orthonormalize(facts.map(({ cosines }) => cosines), facts.map((_, i) => i)).map(({ weights }) => weights);

/** The weights of the others that take them out of the one of that number: what is left is at right angles to them. */
export function projectOut(facts: readonly DirectionFacts[], number: number): number[] {
  const vectors = facts.map(({ cosines }) => cosines);
  const others = orthonormalize(vectors, vectors.map((_, i) => i).filter((i) => i !== number));
  return vectors.map((_, j) => (j === number ? 1 : -others.reduce((sum, one) => sum + dot(vectors[number], one.vector) * one.weights[j], 0)));
}

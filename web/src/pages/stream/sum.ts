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

/** The weights of the others that take them out of the one of that number: what is left is at right angles to them. */
export function projectOut(facts: readonly DirectionFacts[], number: number): number[] {
  const others = facts.flatMap((one, i) => (i === number ? [] : [{ i, cosines: one.cosines }]));
  const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, j) => sum + value * b[j], 0);
  // Gram-Schmidt over the others; of each step what it is made of is kept too, so that the weights come out in their own terms.
  const basis: { vector: number[]; made: number[] }[] = [];
  for (const { i, cosines } of others) {
    let vector = [...cosines];
    let made: number[] = facts.map((_, j) => (j === i ? 1 : 0));
    for (const one of basis) {
      const along = dot(vector, one.vector);
      vector = vector.map((value, j) => value - along * one.vector[j]);
      made = made.map((value, j) => value - along * one.made[j]);
    }
    const length = Math.hypot(...vector);
    if (length < 1e-6) continue; // within the span of those before
    basis.push({ vector: vector.map((value) => value / length), made: made.map((value) => value / length) });
  }
  return facts.map((_, j) => (j === number ? 1 : -basis.reduce((sum, one) => sum + dot(facts[number].cosines, one.vector) * one.made[j], 0)));
}

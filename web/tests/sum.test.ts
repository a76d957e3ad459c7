import assert from "node:assert/strict";
import { test } from "node:test";
import type { DirectionFacts, Pca } from "../src/pages/server.ts";
import type { Row } from "../src/pages/stream/address.ts";
import { addUp, basisOf, projectOut, sounding, sumOf } from "../src/pages/stream/sum.ts";

const pca: Pca = { site: "resid_pre.0", n_texts: 1, n_tokens: 9, n_cut: 0, left_out: [0], shares: [0.5, 0.3, 0.2], deviations: [5, 3, 2].map(Math.sqrt), offsets: [1, 2, 3], warning: null };
const facts = (name: string, cosines: number[], left_out = [0]): DirectionFacts => ({ name, deviation: null, offset: cosines.reduce((sum, one, i) => sum + one * pca.offsets[i], 0), left_out, history: {}, cosines });
const row = (weight: number, muted = false): Row => ({ weight, of: { kind: "x" }, muted });
const near = (a: ArrayLike<number>, b: ArrayLike<number>): void => Array.from(a).forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-6, `${Array.from(a)} is not ${Array.from(b)}`));

const A = facts("a", [1, 0, 0]);
const B = facts("b", [0.6, 0.8, 0], [0, 2]);
const C = facts("c", [0, 0.6, 0.8]);

test("a sum has the length, the direction, the offset and the deviation of its vectors' sum", () => {
  const sum = sumOf([row(2), row(-1)], [A, B], pca)!;
  const vector = [1.4, -0.8, 0];
  assert.ok(Math.abs(sum.length - Math.hypot(...vector)) < 1e-12);
  near(sum.cosines, vector.map((one) => one / sum.length));
  near([sum.offset], [vector.reduce((total, one, i) => total + one * pca.offsets[i], 0) / sum.length]);
  near([sum.deviation!], [Math.sqrt(1.4 ** 2 * 5 + 0.8 ** 2 * 3) / sum.length]);
  near([sum.share], [(1.4 ** 2 * 0.5 + 0.8 ** 2 * 0.3) / sum.length ** 2]);
  assert.deepEqual(sum.left_out, [0, 2]);
  assert.equal(sum.name, "2.00 (a) − 1.00 (b)");
  near(addUp([row(2), row(-1)], [Float32Array.of(1, 2), Float32Array.of(3, 5)], sum, true), [-1, -1]);
  near(addUp([row(2), row(-1)], [Float32Array.of(1, 2), Float32Array.of(3, 5)], sum, false), [-1 / sum.length, -1 / sum.length]);
});

test("one alone is itself, and nothing is left of what cancels", () => {
  const values = Float32Array.of(1, 2);
  assert.equal(addUp([row(1)], [values], sumOf([row(1)], [C], pca)!, false), values);
  assert.equal(sumOf([row(3)], [C], pca)!.name, "c");
  assert.equal(sumOf([row(1), row(-1)], [A, A], pca), null);
  assert.equal(sumOf([], [], pca), null);
  assert.deepEqual(sounding([row(1), row(0), row(2, true)]), [row(1)]);
});

test("what others are taken out of is at right angles to each, even where they are not independent", () => {
  for (const all of [[C, A, B], [C, A, A, B]]) {
    const weights = projectOut(all, 0);
    assert.equal(weights[0], 1);
    const left = all[0].cosines.map((_, j) => all.reduce((sum, one, i) => sum + weights[i] * one.cosines[j], 0));
    for (const other of all.slice(1)) near([other.cosines.reduce((sum, one, j) => sum + one * left[j], 0)], [0]);
    assert.ok(Math.hypot(...left) > 0.5);
  }
});

test("a basis is of length one and at right angles, and leaves out what is in it already", () => {
  const all = [A, B, A, C];
  const vectors = basisOf(all).map((weights) => all[0].cosines.map((_, j) => all.reduce((sum, one, i) => sum + weights[i] * one.cosines[j], 0)));
  assert.equal(vectors.length, 3);
  vectors.forEach((a, i) => vectors.forEach((b, k) => near([a.reduce((sum, value, j) => sum + value * b[j], 0)], [i === k ? 1 : 0])));
  near(vectors[0], A.cosines);
});

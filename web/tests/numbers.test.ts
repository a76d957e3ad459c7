import assert from "node:assert/strict";
import { test } from "node:test";
import { count, counted, histogram, percent, percentile, rounded, signed } from "../src/numbers.ts";

test("values have a sign, a real minus, and decimals that fit their size", () => {
  const cases: [number, string][] = [
    [0.734, "+0.73"], [-2.6, "−2.60"], [0, "0.00"], [-0, "0.00"], [12.34, "+12.3"], [-1234.5, "−1235"], [0.0123, "+0.012"],
    [0.00012, "+1.2e−4"], [-3.2e7, "−3.2e7"], [9.996, "+10.0"], [99.96, "+100"], [NaN, "n/a"],
  ]; // prettier-ignore
  for (const [value, text] of cases) assert.equal(signed(value), text, String(value));
});

test("ends of ranges have two significant digits", () => {
  const cases: [number, string][] = [[2.64, "2.6"], [3, "3.0"], [0.34, "0.34"], [0.0341, "0.034"], [31.2, "31"], [312, "312"], [0.00002, "2.0e−5"], [9.97, "10"]]; // prettier-ignore
  for (const [value, text] of cases) assert.equal(rounded(value), text, String(value));
});

test("shares and counts", () => {
  assert.deepEqual([0.0553, 0.25, 0.00034, 0, 1].map(percent), ["5.5%", "25.0%", "0.03%", "0.0%", "100.0%"]);
  assert.equal(count(9800), "9,800");
  assert.deepEqual([counted(1, "token"), counted(90, "token")], ["1 token", "90 tokens"]);
});

test("percentiles as numpy computes them", () => {
  const values = Float32Array.from({ length: 101 }, (_, i) => (i * 37) % 101);
  assert.equal(percentile(values, 0.99), 99);
  assert.equal(percentile(Float32Array.of(0, 10), 0.25), 2.5);
  assert.equal(percentile(Float32Array.of(7), 0.99), 7);
  assert.ok(Number.isNaN(percentile(new Float32Array(), 0.5)));
});

test("a histogram counts everything once, NaN not at all", () => {
  assert.deepEqual(histogram([-9, -1, -0.1, 0, 0.99, 1, 9, NaN], 1, 4), [2, 1, 1, 3]);
});

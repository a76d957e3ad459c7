import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { contrast, hex, mix, oklab, type Rgb, shadeText, STEPS, stepOf } from "../src/shades.ts";

const css = readFileSync("src/tokens.css", "utf8");

/** The colours of a theme, as the style sheet has them. */
function tokens(theme: "light" | "dark"): Record<string, Rgb> {
  const found = [...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)];
  return Object.fromEntries(found.map(([, name, light, dark]) => [name, parse(theme === "light" ? light : dark)]));
}

const parse = (text: string): Rgb => [1, 3, 5].map((i) => Number.parseInt(text.slice(i, i + 2), 16)) as unknown as Rgb;

for (const theme of ["light", "dark"] as const) {
  const { ground, raised, positive, negative, ...inks } = tokens(theme);
  const shades = (pole: Rgb): Rgb[] => Array.from({ length: STEPS + 1 }, (_, i) => mix(pole, ground, i / STEPS));

  test(`${theme}: text passes AA on every shade`, () => {
    for (const pole of [positive, negative])
      shades(pole).forEach((shade, step) => assert.ok(contrast(shade, inks.ink) >= 4.5, `step ${step} of ${hex(pole)}: ${contrast(shade, inks.ink)}`));
  });

  test(`${theme}: every other text passes AA on the grounds it stands on`, () => {
    for (const name of ["ink", "ink-2", "ink-3", "accent"])
      for (const under of [ground, raised]) assert.ok(contrast(inks[name], under) >= 4.5, `--${name} on ${hex(under)}: ${contrast(inks[name], under)}`);
    assert.ok(contrast(inks["ink-2"], inks.line) >= 4.5, "left-out tokens stand on hatching");
  });

  test(`${theme}: steps are equal in lightness, the two signs alike, zero is the ground`, () => {
    const lightness = (pole: Rgb): number[] => shades(pole).map((shade) => oklab(shade)[0]);
    const [up, down] = [lightness(positive), lightness(negative)];
    assert.equal(hex(shades(positive)[0]), hex(ground));
    for (const side of [up, down]) {
      const step = (side[STEPS] - side[0]) / STEPS;
      side.forEach((value, i) => assert.ok(Math.abs(value - side[0] - i * step) < 0.004, `step ${i}`));
    }
    up.forEach((value, i) => assert.ok(Math.abs(value - down[i]) < 0.006, `step ${i}: ${value} against ${down[i]}`));
    assert.ok(Math.abs(up[STEPS] - up[0]) > 0.25, "the range is wide enough to be read");
  });
}

test("values fall into steps", () => {
  assert.equal(STEPS >= 32, true);
  assert.deepEqual([0, 1, -1, 5, -5, 0.5, NaN].map((value) => stepOf(value, 1)), [0, STEPS, -STEPS, STEPS, -STEPS, STEPS / 2, 0]);
  assert.equal(Object.is(stepOf(-1e-9, 1), 0), true);
  assert.match(shadeText(-STEPS / 4), /--negative\) 25\.00%/);
});

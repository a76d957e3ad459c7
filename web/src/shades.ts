// Shades of signed values: the page's ground at zero, equal steps in OKLab to a pole at each end.
// tokens.css has the colours; text of colour --ink on any of the shades passes WCAG AA, in both themes (a test computes it).

export const STEPS = 48;

/** The step of a value within [-limit, limit]: -STEPS..STEPS; 0 for NaN. */
export function stepOf(value: number, limit: number): number {
  const step = Math.round((value / limit) * STEPS);
  return step > STEPS ? STEPS : step < -STEPS ? -STEPS : step || 0;
}

/** The shade of a step as CSS: for paper, where no canvas fits the lines. */
export function shadeText(step: number): string {
  return `color-mix(in oklab, var(--${step > 0 ? "positive" : "negative"}) ${((Math.abs(step) / STEPS) * 100).toFixed(2)}%, var(--ground))`;
}

export type Rgb = readonly [number, number, number]; // 0..255

const linear = (c: number): number => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const encoded = (c: number): number =>
  Math.round(255 * Math.min(1, Math.max(0, c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055)));

/** Björn Ottosson's OKLab. */
export function oklab(rgb: Rgb): [number, number, number] {
  const [r, g, b] = rgb.map(linear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromOklab([L, a, b]: readonly number[]): Rgb {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    encoded(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

/** `color-mix(in oklab, pole share, ground)`, as the browser computes it. */
export function mix(pole: Rgb, ground: Rgb, share: number): Rgb {
  const [p, g] = [oklab(pole), oklab(ground)];
  return fromOklab(p.map((c, i) => c * share + g[i] * (1 - share)));
}

/** WCAG 2 contrast of two colours, 1..21. */
export function contrast(a: Rgb, b: Rgb): number {
  const [light, dark] = [a, b]
    .map((rgb) => rgb.map(linear))
    .map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b)
    .sort((p, q) => q - p);
  return (light + 0.05) / (dark + 0.05);
}

export const hex = (rgb: Rgb): string => `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`;

export interface Palette {
  ground: string;
  line: string;
  ink: string;
  ink2: string;
  accent: string;
  negative: string;
  positive: string;
  shades: string[]; // by step + STEPS
}

/** The colours that hold at an element, for what CSS does not reach: canvases and pictures. */
export function readPalette(el: Element): Palette {
  const probe = el.appendChild(document.createElement("i"));
  const read = (name: string): Rgb => {
    probe.style.color = `var(--${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g)!.map(Number);
    return [r, g, b];
  };
  const [ground, line, ink, ink2, accent, negative, positive] = ["ground", "line", "ink", "ink-2", "accent", "negative", "positive"].map(read);
  probe.remove();
  const shades = Array.from({ length: 2 * STEPS + 1 }, (_, i) =>
    hex(mix(i < STEPS ? negative : positive, ground, Math.abs(i - STEPS) / STEPS)),
  );
  return { ground: hex(ground), line: hex(line), ink: hex(ink), ink2: hex(ink2), accent: hex(accent), negative: hex(negative), positive: hex(positive), shades };
}

// Numbers as people read them: a real minus sign, a fixed count of decimals for a given size.

function digits(size: number): string {
  if (size >= 1e6 || (size > 0 && size < 0.00095)) return size.toExponential(1).replace("e+", "e").replace("-", "−");
  if (size >= 99.95) return size.toFixed(0);
  if (size >= 9.995) return size.toFixed(1);
  if (size >= 0.0995 || size === 0) return size.toFixed(2);
  return size.toPrecision(2);
}

/** "+0.73", "−2.60", "0.00"; "n/a" for NaN. */
export function signed(value: number): string {
  if (Number.isNaN(value)) return "n/a";
  const text = digits(Math.abs(value));
  return value === 0 ? text : (value < 0 ? "−" : "+") + text;
}

/** "0.73", "−2.60": without a plus. */
export const plain = (value: number): string => signed(value).replace("+", "");

/** With as many decimals as all values of one range have: "0.000", "0.013" where it ends at 0.012; two from 0.1 to 10. */
export function within(value: number, limit: number): string {
  if (Number.isNaN(value)) return "";
  const text = Math.abs(value).toFixed(Math.max(limit < 10 ? 2 : 0, 1 - Math.floor(Math.log10(limit))));
  return value < 0 && Number(text) ? `−${text}` : text;
}

/** Round numbers within [low, high], about so many. */
export function ticks(low: number, high: number, about: number): number[] {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough)!;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** The ends of a colour range: two significant digits, "2.6", "0.034", "310". */
export function rounded(size: number): string {
  if (!Number.isFinite(size)) return "n/a";
  if (size >= 1e6 || (size > 0 && size < 0.001)) return digits(size);
  return size >= 9.95 ? size.toFixed(0) : String(Number(size.toPrecision(2)).toFixed(size >= 0.995 ? 1 : size >= 0.0995 ? 2 : 3));
}

/** A share of one as "5.5%", "0.034%". */
export function percent(share: number): string {
  const value = share * 100;
  return `${value >= 9.95 ? value.toFixed(1) : value >= 0.095 || value === 0 ? value.toFixed(1) : Number(value.toPrecision(1)).toString()}%`;
}

/** "9,800" */
const grouped = new Intl.NumberFormat("en-US");
export const count = (n: number): string => grouped.format(n);

/** "1 token", "90 tokens" */
export const counted = (n: number, noun: string): string => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** The value below which the share `q` of the numbers lies (linear between neighbours); sorts `values` in place. */
export function percentile(values: Float32Array, q: number): number {
  if (!values.length) return NaN;
  values.sort();
  const at = q * (values.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, values.length - 1);
  return values[low] + (values[high] - values[low]) * (at - low);
}

/** How many values fall into each of `bins` equal parts of [-limit, limit]; what lies outside goes into the outermost. */
export function histogram(values: Iterable<number>, limit: number, bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    const bin = Math.floor(((value / limit + 1) / 2) * bins);
    counts[Math.min(bins - 1, Math.max(0, bin))]++;
  }
  return counts;
}

/** The numbers below n in an order drawn from a seed: the same each time. */
export function drawOrder(n: number, seed: number): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  let state = seed >>> 0;
  const draw = (): number => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

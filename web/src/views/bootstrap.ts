// How sure a mean over pairs is.

const DRAWS = 2000;

/** Random numbers in [0, 1), the same for the same seed: Tommy Ettinger's mulberry32. */
function randoms(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The percentile interval of sum(values) / sum(over), from pairs drawn anew; of the mean, where `over` is all ones. */
export function bootstrapInterval(values: ArrayLike<number>, over: ArrayLike<number>, level = 0.95): [low: number, high: number] {
  const random = randoms(0);
  const n = values.length;
  const drawn = Float64Array.from({ length: DRAWS }, () => {
    let [sum, whole] = [0, 0];
    for (let i = 0; i < n; i++) {
      const at = Math.floor(random() * n);
      sum += values[at];
      whole += over[at];
    }
    return sum / whole;
  }).sort();
  const at = (share: number): number => drawn[Math.round(share * (DRAWS - 1))];
  return [at((1 - level) / 2), at((1 + level) / 2)];
}

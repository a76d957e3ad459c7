// Two texts, token by token: which token of the one stands for which of the other.

import { counted } from "../../numbers.ts";

export type Match = readonly (number | null)[];

/** The longest run of the same tokens within a[aFrom, aTo) and b[bFrom, bTo), the first of several. */
function longestRun(a: readonly string[], b: readonly string[], [aFrom, aTo, bFrom, bTo]: readonly number[]): { i: number; j: number; n: number } {
  let best = { i: aFrom, j: bFrom, n: 0 };
  let before = new Int32Array(bTo - bFrom + 1); // of runs that end at the token of `a` before, by where in `b`
  for (let i = aFrom; i < aTo; i++) {
    const now = new Int32Array(before.length);
    for (let j = bFrom; j < bTo; j++)
      if (a[i] === b[j]) {
        const n = (now[j - bFrom + 1] = before[j - bFrom] + 1);
        if (n > best.n) best = { i: i + 1 - n, j: j + 1 - n, n };
      }
    before = now;
  }
  return best;
}

/**
 * Of each token of `a` the position in `b` of the one that it is compared with; null where there is none.
 *
 * Texts of one length are compared position by position. Else the longest run that both have is aligned, then what is
 * left and right of it likewise; between runs, as many tokens as stand in the other text are compared in their order.
 * Positions rise, and none of `b` is named twice.
 */
export function align(a: readonly string[], b: readonly string[]): Match {
  const match: (number | null)[] = a.map(() => null);
  const pair = (i: number, j: number, n: number): void => {
    for (let k = 0; k < n; k++) match[i + k] = j + k;
  };
  const open = [[0, a.length, 0, b.length]];
  for (let box = open.pop(); box; box = open.pop()) {
    const [aFrom, aTo, bFrom, bTo] = box;
    if (aTo - aFrom === bTo - bFrom) {
      pair(aFrom, bFrom, aTo - aFrom);
      continue;
    }
    const { i, j, n } = longestRun(a, b, box);
    if (!n) continue;
    pair(i, j, n);
    open.push([aFrom, i, bFrom, j], [i + n, aTo, j + n, bTo]);
  }
  return match;
}

/** What was aligned, in words. */
export function sayAligned(a: readonly string[], b: readonly string[], match: Match): string {
  if (a.length === b.length) return `Both have ${counted(a.length, "token")}, which are compared position by position.`;
  const found = match.filter((at) => at !== null).length;
  if (!found) return "The two have no token in common, and nothing is compared.";
  const same = match.filter((at, pos) => at !== null && a[pos] === b[at]).length;
  const placed = found > same ? `, and ${found - same} in the place of ${found - same === 1 ? "another" : "others"}` : "";
  return `Of ${counted(a.length, "token")} here and ${b.length} there, ${same} are the same${placed}. Compared with none: ${a.length - found} here, hatched, and ${b.length - found} there.`;
}

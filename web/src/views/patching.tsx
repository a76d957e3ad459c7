// Patching: layers, or heads, by positions, roles or heads; the mean over pairs, its interval, and each pair.

import { useMemo } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { counted, signed, within } from "../numbers.ts";
import { bootstrapInterval } from "./bootstrap.ts";
import { type Cell, type Heat, heatDrawing, isSame, type Label, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, type Head, oneCellOf, oneOf, someOf } from "./look.ts";
import { widthOf } from "./pen.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { Scatter, scatterDrawing, type ScatterProps } from "./scatter.tsx";
import type { Tip } from "./tooltip.ts";
import "./patching.css";

interface Payload extends Named {
  labels: Record<string, (string | number)[]>; // along each axis of the values; the last is `pair`
  pieces: string[][]; // [pair pos] of the clean prompts
  reference: number; // the normalised value that means no effect: of the run that was patched
  meaning: string; // of the normalised values
  settings: Named["settings"] & { direction?: string; metric?: string; unit?: string; noise_floor?: number; n_heads?: number };
}

type Quantity = "normalised" | "change" | "raw";

interface Chosen {
  quantity: Quantity;
  pair: number | null; // null is the mean of all
  slice: Record<string, number>; // of the axes that are neither rows nor columns
  against: number | null; // another site, by which the one shown is scattered
}

const ALONG = ["role", "pos"]; // what stands along columns, where there is one
const HEADS = ["head", "kv_head"];

/** Which axes are rows, which are columns, and of which one value is shown at a time. */
export function arrangeAxes(axes: readonly string[]): { rows: string[]; columns: string | null; sliced: string[] } {
  const cells = axes.filter((axis) => axis !== "pair");
  const columns = cells.find((axis) => ALONG.includes(axis)) ?? cells.find((axis) => HEADS.includes(axis)) ?? null;
  const rows = cells.filter((axis) => axis !== columns && (axis === "layer" || HEADS.includes(axis)));
  return { rows, columns, sliced: cells.filter((axis) => axis !== columns && !rows.includes(axis)) };
}

/** What was measured, cell by cell and pair by pair. */
class Patched {
  readonly axes: string[];
  readonly rows: string[];
  readonly columns: string | null;
  readonly sliced: string[];
  readonly n_pairs: number;
  readonly differences: Float32Array; // clean less corrupted, of each pair

  constructor(
    readonly payload: Payload,
    private readonly arrays: Record<string, Tensor>,
    readonly slice: Record<string, number>,
  ) {
    this.axes = Object.keys(payload.labels);
    ({ rows: this.rows, columns: this.columns, sliced: this.sliced } = arrangeAxes(this.axes));
    this.n_pairs = payload.labels.pair.length;
    this.differences = arrays.clean_values.data.map((value, pair) => value - arrays.corrupted_values.data[pair]);
  }

  /** Why there is no share of the way from corrupted to clean, if there is none. */
  get undivided(): string | null {
    const mean = meanOf(this.differences);
    const spread = Math.sqrt(this.differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, this.n_pairs - 1));
    const least = Math.max((2 * spread) / Math.sqrt(this.n_pairs), this.payload.settings.noise_floor ?? 0);
    return Math.abs(mean) <= least ? `clean and corrupted differ by ${signed(mean)}, too near to zero to divide by` : null;
  }

  /** The normalised value of the run that was patched: 0 is the corrupted one, 1 the clean one. */
  get reference(): number {
    const { settings, labels, reference } = this.payload;
    return settings.direction === "both" ? Number(labels.direction[this.slice.direction ?? 0] === "noise") : reference;
  }

  private get base(): Float32Array {
    return this.reference ? this.arrays.clean_values.data : this.arrays.corrupted_values.data;
  }

  private size = (axis: string): number => this.payload.labels[axis].length;

  labelsOf(axes: readonly string[]): Label[] {
    const all = axes.reduce<string[][]>((found, axis) => found.flatMap((one) => this.payload.labels[axis].map((label) => [...one, String(label)])), [[]]);
    return all.map((one) => ({ text: one.join(".") }));
  }

  columnLabels(pair: number | null): Label[] {
    if (!this.columns) return [{ text: "" }];
    const labels = this.labelsOf([this.columns]);
    return labels.map(({ text }, column) => {
      const tokens = new Set((pair === null ? this.payload.pieces.map((_, i) => i) : [pair]).map((i) => this.pieceAt(column, i)));
      const [token] = tokens;
      if (this.columns === "role") return { text, below: tokens.size === 1 ? token : "" };
      return this.columns === "pos" ? { index: this.positionOf(column, pair ?? 0), text: tokens.size === 1 ? token : "" } : { text };
    });
  }

  positionOf = (column: number, pair: number): number => this.arrays.positions.data[column * this.n_pairs + pair];
  pieceAt = (column: number, pair: number): string => (HEADS.includes(this.columns!) ? "" : visiblePiece(this.payload.pieces[pair][this.positionOf(column, pair)] ?? ""));

  /** The metric of a cell, pair by pair; within the noise floor of the base it is the base's. */
  raw({ row, column }: Cell): Float32Array {
    let left = row;
    const place: Record<string, number> = { ...this.slice };
    for (const axis of this.rows.toReversed()) {
      place[axis] = left % this.size(axis);
      left = Math.floor(left / this.size(axis));
    }
    if (this.columns) place[this.columns] = column;
    const at = this.axes.slice(0, -1).reduce((at, axis) => at * this.size(axis) + (place[axis] ?? 0), 0) * this.n_pairs;
    const values = this.arrays.values.data.subarray(at, at + this.n_pairs);
    const { base } = this;
    const floor = this.payload.settings.noise_floor ?? 0;
    return values.map((value, pair) => (Math.abs(value - base[pair]) <= floor ? base[pair] : value));
  }

  /** Numerators and denominators: their ratio, of one pair or of sums, is what is shown. */
  parts(cell: Cell, quantity: Quantity): { values: Float32Array; over: Float32Array } {
    const raw = this.raw(cell);
    const less = quantity === "raw" ? null : quantity === "change" ? this.base : this.arrays.corrupted_values.data;
    const values = less ? raw.map((value, pair) => value - less[pair]) : raw;
    return { values, over: quantity === "normalised" ? this.differences : new Float32Array(this.n_pairs).fill(1) };
  }

  value(cell: Cell, quantity: Quantity, pair: number | null): number {
    const { values, over } = this.parts(cell, quantity);
    // One pair is divided by the mean of all, so that pairs have one scale and their mean is the ratio of means.
    return pair === null ? meanOf(values) / meanOf(over) : values[pair] / meanOf(over);
  }

  interval(cell: Cell, quantity: Quantity): string | null {
    if (this.n_pairs < 2) return null;
    const { values, over } = this.parts(cell, quantity);
    return `95% ${bootstrapInterval(values, over).map(signed).join(" to ")}`;
  }
}

const meanOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

const LONG = 80; // characters of a metric: one answer for each pair is too much
const SPOKEN: Record<string, string> = { layer: "layer", head: "head", kv_head: "key-value head", role: "role", pos: "position" };
const QUANTITIES: readonly (readonly [Quantity, string])[] = [
  ["normalised", "the share restored"],
  ["change", "the change of the metric"],
  ["raw", "the metric"],
];

/** One quantity of every cell, of one pair or of the mean, as it is drawn. */
class Picture {
  readonly rows: Label[];
  readonly columns: Label[];
  readonly values: Float32Array;
  readonly zero: number; // what has no colour

  constructor(
    readonly patched: Patched,
    readonly quantity: Quantity,
    readonly pair: number | null,
  ) {
    this.rows = patched.labelsOf(patched.rows);
    this.columns = patched.columnLabels(pair);
    this.values = Float32Array.from({ length: this.rows.length * this.columns.length }, (_, i) => patched.value(this.cellOf(i), quantity, pair));
    this.zero = quantity === "normalised" ? patched.reference : 0;
  }

  cellOf = (i: number): Cell => ({ row: Math.floor(i / this.columns.length), column: i % this.columns.length });
  indexOf = ({ row, column }: Cell): number => row * this.columns.length + column;
  valueAt = (cell: Cell): number => this.values[this.indexOf(cell)];

  placeOf = ({ row, column }: Cell): string => {
    const { rows, columns } = this.patched;
    const { text, index } = this.columns[column];
    return [`${rows.map((axis) => SPOKEN[axis]).join(".")} ${this.rows[row].text}`, columns && `${SPOKEN[columns]} ${[index, text].filter((part) => part !== undefined && part !== "").join(" ")}`].filter(Boolean).join(", ");
  };

  tip = (cell: Cell): Tip => {
    const { patched, pair, quantity } = this;
    const facts = [pair === null ? patched.interval(cell, quantity) : patched.pieceAt(cell.column, pair), quantity === "raw" ? null : `metric ${signed(patched.value(cell, "raw", pair))}`];
    return { piece: this.placeOf(cell), value: signed(this.valueAt(cell)), facts: facts.filter((fact) => fact !== null) };
  };

  heat(shaded: Float32Array, limit: number): Heat {
    const most = Math.abs(this.zero) + limit;
    return {
      rows: this.rows,
      columns: this.columns,
      steps: stepsOf(shaded, limit),
      upward: true,
      words: (cell) => within(this.valueAt(cell), limit),
      wordWidth: widthOf(`−${within(most, limit)}`) + 4,
      width: [20, 72],
      height: this.rows.length > 40 ? 13 : 22,
    };
  }

  table(): (string | number)[][] {
    const { patched } = this;
    const { labels } = patched.payload;
    const sliced = patched.sliced.map((axis) => labels[axis][patched.slice[axis] ?? 0]);
    return [
      [...patched.sliced, ...patched.rows, ...(patched.columns ? [patched.columns] : []), "pair", "value"],
      ...Array.from(this.values.keys()).flatMap((i) => {
        const { row, column } = this.cellOf(i);
        const label = this.columns[column];
        const place = [...sliced, ...this.rows[row].text.split("."), ...(patched.columns ? [label.index ?? label.text] : [])];
        return Array.from({ length: patched.n_pairs }, (_, pair) => [...place, pair, patched.value({ row, column }, this.quantity, pair)]);
      }),
    ];
  }
}

interface SentenceProps {
  patched: Patched;
  quantity: Quantity;
  chosen: Chosen;
  choose: (changed: Partial<Chosen>) => void;
}

const pairName = (pair: number | null, n_pairs: number): string => (pair === null ? `the mean of ${counted(n_pairs, "pair")}` : `pair ${pair}`);
const numbered = (labels: readonly (string | number)[]) => labels.map((label, i) => [String(i), String(label)] as const);
const numberOr = (text: string): number | null => (text === "" ? null : Number(text));

function Sentence({ patched, quantity, chosen: { pair, slice, against }, choose }: SentenceProps) {
  const { payload, sliced, undivided, n_pairs } = patched;
  const pairs = [null, ...Array(n_pairs).keys()].map((i) => [String(i ?? ""), pairName(i, n_pairs)] as const);
  return (
    <>
      Show <Word label="Quantity" value={quantity} options={QUANTITIES.filter(([name]) => name !== "normalised" || !undivided)} onChange={(quantity) => choose({ quantity })} />
      {n_pairs > 1 && (
        <>
          {" "}
          of <Word label="Pair" value={String(pair ?? "")} options={pairs} onChange={(pair) => choose({ pair: numberOr(pair) })} />
        </>
      )}
      {sliced.map((axis) => (
        <span key={axis}>
          {" "}
          {axis === "site" ? "at" : "by"} <Word label={axis} value={String(slice[axis] ?? 0)} options={numbered(payload.labels[axis])} onChange={(at) => choose({ slice: { ...slice, [axis]: Number(at) } })} />
        </span>
      ))}
      {sliced.includes("site") && (
        <>
          {" "}
          against{" "}
          <Word
            label="Other site"
            value={String(against ?? "")}
            options={[["", "nothing"], ...numbered(payload.labels.site).filter((_, i) => i !== (slice.site ?? 0))]}
            onChange={(at) => choose({ against: numberOr(at) })}
          />
        </>
      )}
    </>
  );
}

const NO_SLICE: Chosen["slice"] = {};

function Patching({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Cell>) {
  const { settings, labels } = payload;
  const { pair = null, slice = NO_SLICE, against = null } = chosen;
  const patched = useMemo(() => new Patched(payload, arrays, slice), [payload, arrays, slice]);
  const { undivided, n_pairs, sliced } = patched;
  const quantity = (undivided && chosen.quantity === "normalised" ? null : chosen.quantity) ?? (undivided ? "change" : "normalised");
  const picture = useMemo(() => new Picture(patched, quantity, pair), [patched, quantity, pair]);
  const other = useMemo(() => (against === null || !sliced.includes("site") ? null : new Picture(new Patched(payload, arrays, { ...slice, site: against }), quantity, pair)), [picture, against]);
  const shaded = useMemo(() => picture.values.map((value) => value - picture.zero), [picture]);
  const range = { ...rangeOf(shaded, scale, quantity === "normalised" ? "" : (settings.unit ?? "")), signed: true, zero: picture.zero };
  const heat = useMemo(() => picture.heat(shaded, range.limit), [picture, range.limit]);
  const pickCell = (cell: Cell): void => pick(picked && isSame(picked, cell) ? null : cell);
  const caption = `${QUANTITIES.find(([name]) => name === quantity)![1]}, ${pairName(pair, n_pairs)}`;
  const scattered = other && scatterOf(picture, other, picked, pickCell);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={[caption, ...sliced.map((axis) => labels[axis][slice[axis] ?? 0])].join(", ")}
      sentence={<Sentence patched={patched} quantity={quantity} chosen={{ quantity, pair, slice, against }} choose={choose} />}
      range={scattered ? undefined : { ...range, scale, each: null, onScale }}
      notes={[
        quantity === "normalised" ? payload.meaning : null,
        settings.metric ? `metric: ${settings.metric.length > LONG ? `${settings.metric.slice(0, LONG)}…` : settings.metric}` : null,
        undivided,
        settings.noise_floor ? `changes within ${settings.noise_floor.toPrecision(1)} are noise, drawn as none` : null,
      ]}
      drawing={() => (scattered ? scatterDrawing(scattered) : heatDrawing(heat))}
      table={() => picture.table()}
    >
      {scattered ? (
        <Scatter {...scattered} />
      ) : (
        <HeatMap
          {...heat}
          label={`${payload.name}: ${caption}, ${picture.rows.length} rows by ${picture.columns.length} columns`}
          picked={picked ? [picked] : []}
          number={(cell) => signed(picture.valueAt(cell))}
          tip={picture.tip}
          onPick={pickCell}
        />
      )}
      {alone && picked && n_pairs > 1 && <EachPair picture={picture} cell={picked} limit={range.limit} />}
    </Stand>
  );
}

/** One site's cells against another's. */
function scatterOf(picture: Picture, other: Picture, picked: Cell | null, onPick: (cell: Cell) => void): ScatterProps {
  const siteOf = ({ patched: { payload, slice } }: Picture): string => String(payload.labels.site[slice.site ?? 0]);
  return {
    x: other.values,
    y: picture.values,
    names: [siteOf(other), siteOf(picture)],
    origin: picture.zero,
    label(i) {
      const { row, column } = picture.cellOf(i);
      return `${picture.rows[row].text}.${picture.columns[column].text}`;
    },
    tip: (i) => ({ piece: picture.placeOf(picture.cellOf(i)), value: signed(picture.values[i]), facts: [siteOf(picture), `${signed(other.values[i])} ${siteOf(other)}`] }),
    picked: picked && picture.indexOf(picked),
    onPick: (i) => onPick(picture.cellOf(i)),
  };
}

/** A cell's value in every pair. */
function EachPair({ picture, cell, limit }: { picture: Picture; cell: Cell; limit: number }) {
  const { patched, quantity, zero } = picture;
  const values = patched.payload.pieces.map((_, pair) => patched.value(cell, quantity, pair));
  const most = Math.max(limit, ...values.map((value) => Math.abs(value - zero)));
  return (
    <section class="pairs">
      <h2>{picture.placeOf(cell)}</h2>
      <p>
        mean {signed(patched.value(cell, quantity, null))}, {patched.interval(cell, quantity)} by bootstrap over {counted(values.length, "pair")}
      </p>
      <ol start={0}>
        {values.map((value, pair) => {
          const share = (50 * (value - zero)) / most;
          return (
            <li key={pair}>
              <b>{pair}</b>
              <span>{signed(value)}</span>
              <i>
                <i class={share < 0 ? "negative" : ""} style={{ left: `${50 + Math.min(0, share)}%`, width: `${Math.abs(share)}%` }} />
              </i>
              <q>{patched.payload.pieces[pair].join("")}</q>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

/** The heads of a cell: a key-value head serves several. */
function headsOf({ labels, settings }: Payload, cell: Cell): Head[] {
  const { rows, columns } = arrangeAxes(Object.keys(labels));
  const axis = HEADS.find((axis) => axis in labels);
  if (!axis) return [];
  const n = labels[axis].length;
  const [layer, head] = columns === axis ? [cell.row, cell.column] : [Math.floor(cell.row / n), cell.row % n];
  const each = axis === "kv_head" ? settings.n_heads! / n : 1;
  return rows.includes("layer") ? Array.from({ length: each }, (_, i) => ({ layer: Number(labels.layer[layer]), head: head * each + i })) : [];
}

export default present(Patching, (payload) => {
  const { labels } = payload;
  const { rows, columns, sliced } = arrangeAxes(Object.keys(labels));
  const size = (axis: string): number => labels[axis].length;
  return {
    chosen: {
      quantity: oneOf(...QUANTITIES.map(([name]) => name)),
      pair: below(size("pair")),
      slice: someOf(Object.fromEntries(sliced.map((axis) => [axis, below(size(axis))]))),
      against: below(labels.site?.length ?? 0),
    },
    picked: oneCellOf(rows.reduce((n, axis) => n * size(axis), 1), columns ? size(columns) : 1),
    onward: (cell) => ({ heads: headsOf(payload, cell) }),
  };
});

// Patching: layers, or heads, by positions, roles or heads; the mean over pairs, its interval, and each pair.

import { useMemo } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { counted, signed, within } from "../numbers.ts";
import { bootstrapInterval } from "./bootstrap.ts";
import { type Cell, type Heat, heatDrawing, type Label, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { widthOf } from "./pen.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { Scatter, scatterDrawing, type ScatterProps } from "./scatter.tsx";
import "./patching.css";

interface Payload extends Named {
  labels: Record<string, (string | number)[]>; // along each axis of the values; the last is `pair`
  pieces: string[][]; // [pair pos] of the clean prompts
  settings: Named["settings"] & { direction?: string; metric?: string; unit?: string; noise_floor?: number };
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
    private readonly slice: Record<string, number>,
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

  /** The run that was patched: corrupted where clean values are put into it. */
  private get base(): Float32Array {
    const { direction } = this.payload.settings;
    const shown = direction === "both" ? this.payload.labels.direction[this.slice.direction ?? 0] : direction;
    return shown === "noise" ? this.arrays.clean_values.data : this.arrays.corrupted_values.data;
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

function Patching({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Cell>) {
  const { settings, labels } = payload;
  const { pair = null, slice = {}, against = null } = chosen;
  const patched = useMemo(() => new Patched(payload, arrays, slice), [payload, arrays, slice]);
  const { undivided, n_pairs, sliced } = patched;
  const quantity = chosen.quantity ?? (undivided ? "change" : "normalised");
  const rows = useMemo(() => patched.labelsOf(patched.rows), [patched]);
  const columns = useMemo(() => patched.columnLabels(pair), [patched, pair]);
  const values = useMemo(
    () => Float32Array.from({ length: rows.length * columns.length }, (_, i) => patched.value({ row: Math.floor(i / columns.length), column: i % columns.length }, quantity, pair)),
    [patched, rows, columns, quantity, pair],
  );
  const other = useMemo(() => {
    if (against === null || !sliced.includes("site")) return null;
    const beside = new Patched(payload, arrays, { ...slice, site: against });
    return Float32Array.from({ length: values.length }, (_, i) => beside.value({ row: Math.floor(i / columns.length), column: i % columns.length }, quantity, pair));
  }, [patched, against, values]);
  const unit = quantity === "normalised" ? "" : (settings.unit ?? "");
  const range = { ...rangeOf(values, scale, unit), signed: true };
  const valueAt = ({ row, column }: Cell): number => values[row * columns.length + column];
  const heat: Heat = {
    rows,
    columns,
    steps: useMemo(() => stepsOf(values, range.limit), [values, range.limit]),
    upward: true,
    words: (cell) => within(valueAt(cell), range.limit),
    wordWidth: widthOf(within(-range.limit, range.limit)) + 4,
    width: [20, 72],
    height: rows.length > 40 ? 13 : 22,
  };
  const placeOf = ({ row, column }: Cell): string =>
    [`${patched.rows.map((axis) => SPOKEN[axis]).join(".")} ${rows[row].text}`, patched.columns && `${SPOKEN[patched.columns]} ${columns[column].text || columns[column].index}`].filter(Boolean).join(", ");
  const cellOf = (i: number): Cell => ({ row: Math.floor(i / columns.length), column: i % columns.length });
  const pickCell = (cell: Cell): void => pick(picked && picked.row === cell.row && picked.column === cell.column ? null : cell);
  const scattered: ScatterProps | null = other && {
    x: other,
    y: values,
    names: [String(labels.site[against!]), String(labels.site[slice.site ?? 0])],
    label: (i) => `${rows[cellOf(i).row].text}.${columns[cellOf(i).column].text}`,
    tip: (i) => ({ piece: placeOf(cellOf(i)), value: signed(values[i]), facts: [String(labels.site[slice.site ?? 0]), `${signed(other[i])} ${labels.site[against!]}`] }),
    picked: picked && picked.row * columns.length + picked.column,
    onPick: (i) => pickCell(cellOf(i)),
  };
  const quantities: (readonly [Quantity, string])[] = [
    ["normalised", "the share restored"],
    ["change", "the change of the metric"],
    ["raw", "the metric"],
  ];
  const pairs = [["", `the mean of ${counted(n_pairs, "pair")}`] as const, ...Array.from({ length: n_pairs }, (_, i) => [String(i), `pair ${i}`] as const)];
  const spoken = quantities.find(([name]) => name === quantity)![1];
  const caption = `${spoken}, ${pairs.find(([name]) => name === (pair === null ? "" : String(pair)))![1]}`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={[caption, ...sliced.map((axis) => labels[axis][slice[axis] ?? 0])].join(", ")}
      sentence={
        <>
          Show <Word label="Quantity" value={quantity} options={quantities.filter(([name]) => name !== "normalised" || !undivided)} onChange={(quantity) => choose({ quantity })} />
          {n_pairs > 1 && (
            <>
              {" "}
              of <Word label="Pair" value={pair === null ? "" : String(pair)} options={pairs} onChange={(pair) => choose({ pair: pair === "" ? null : Number(pair) })} />
            </>
          )}
          {sliced.map((axis) => (
            <span key={axis}>
              {" "}
              {axis === "site" ? "at" : "by"} <Word label={axis} value={String(slice[axis] ?? 0)} options={labels[axis].map((label, i) => [String(i), String(label)])} onChange={(at) => choose({ slice: { ...slice, [axis]: Number(at) } })} />
            </span>
          ))}
          {sliced.includes("site") && (
            <>
              {" "}
              against{" "}
              <Word
                label="Other site"
                value={against === null ? "" : String(against)}
                options={[["", "nothing"], ...labels.site.map((label, i) => [String(i), String(label)] as const).filter((_, i) => i !== (slice.site ?? 0))]}
                onChange={(at) => choose({ against: at === "" ? null : Number(at) })}
              />
            </>
          )}
        </>
      }
      range={{ ...range, scale, each: null, onScale }}
      notes={[
        quantity === "normalised" ? "0 is the corrupted prompts, 1 the clean ones" : null,
        settings.metric ? `metric: ${settings.metric.length > LONG ? `${settings.metric.slice(0, LONG)}…` : settings.metric}` : null,
        undivided,
        settings.noise_floor ? `changes within ${settings.noise_floor.toPrecision(1)} are noise, drawn as none` : null,
      ]}
      drawing={() => (scattered ? scatterDrawing(scattered) : heatDrawing(heat))}
      table={() => [
        [...sliced, ...patched.rows, ...(patched.columns ? [patched.columns] : []), "pair", "value"],
        ...rows.flatMap(({ text }, row) =>
          columns.flatMap((label, column) =>
            Array.from({ length: n_pairs }, (_, i) => [
              ...sliced.map((axis) => labels[axis][slice[axis] ?? 0]),
              ...text.split("."),
              ...(patched.columns ? [label.text || String(label.index)] : []),
              i,
              patched.value({ row, column }, quantity, i),
            ]),
          ),
        ),
      ]}
    >
      {scattered ? (
        <Scatter {...scattered} />
      ) : (
        <HeatMap
          {...heat}
          label={`${payload.name}: ${caption}, ${rows.length} rows by ${columns.length} columns`}
          picked={picked ? [picked] : []}
          number={(cell) => signed(valueAt(cell))}
          tip={(cell) => ({
            piece: placeOf(cell),
            value: signed(valueAt(cell)),
            facts: [pair === null ? patched.interval(cell, quantity) : patched.pieceAt(cell.column, pair), quantity === "raw" ? null : `metric ${signed(patched.value(cell, "raw", pair))}`].filter((fact) => fact !== null),
          })}
          onPick={pickCell}
        />
      )}
      {alone && picked && n_pairs > 1 && <EachPair patched={patched} cell={picked} place={placeOf(picked)} quantity={quantity} limit={range.limit} />}
    </Stand>
  );
}

/** A cell's value in every pair. */
function EachPair({ patched, cell, place, quantity, limit }: { patched: Patched; cell: Cell; place: string; quantity: Quantity; limit: number }) {
  const values = patched.payload.pieces.map((_, pair) => patched.value(cell, quantity, pair));
  const most = Math.max(limit, ...values.map(Math.abs));
  return (
    <section class="pairs">
      <h2>{place}</h2>
      <p>
        mean {signed(patched.value(cell, quantity, null))}, {patched.interval(cell, quantity)} by bootstrap over {counted(values.length, "pair")}
      </p>
      <ol start={0}>
        {values.map((value, pair) => (
          <li key={pair}>
            <b>{pair}</b>
            <span>{signed(value)}</span>
            <i>
              <i class={value < 0 ? "negative" : ""} style={{ left: `${50 + Math.min(0, (50 * value) / most)}%`, width: `${(50 * Math.abs(value)) / most}%` }} />
            </i>
            <q>{patched.payload.pieces[pair].join("")}</q>
          </li>
        ))}
      </ol>
    </section>
  );
}

export default present(Patching);

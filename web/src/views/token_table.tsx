// A table of tokens, or of parts, that can be sorted and searched; only rows in sight exist, so that a whole vocabulary scrolls.

import { useMemo, useRef, useState } from "preact/hooks";
import { count, counted } from "../numbers.ts";
import { type Palette } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { fitted, type Pen } from "./pen.ts";
import { visiblePiece } from "./reading.ts";
import "./token_table.css";

export interface Column {
  name: string;
  values: ArrayLike<number>;
  show: (value: number) => string;
  bar?: number; // of which value it is full; negative values go to the left
  running?: boolean; // each bar begins where the one above ends, so that one sees them add up
  rising?: boolean; // the least is what is wanted first
}

export interface Rows {
  noun: string; // what a row is
  texts: readonly string[];
  ids?: ArrayLike<number>;
  columns: readonly Column[];
}

/** What a row is called: a token with its spaces visible. */
const shownText = ({ noun, texts }: Rows, row: number): string => (noun === "token" ? visiblePiece(texts[row]) : texts[row]);

const ROW = 24; // px
const SHOWN = 20; // rows in sight
const DRAWN = 40; // rows in a file

/** The rows that a search leaves, in the order of a column; NaN last. A middle dot stands for a space. */
export function orderRows({ texts, ids, columns }: Rows, query: string, by: number | null, down: boolean): Uint32Array {
  const sought = query.replaceAll("·", " ").toLowerCase();
  const rows = Uint32Array.from(texts.keys()).filter((row) => texts[row].toLowerCase().includes(sought) || (ids && String(ids[row]) === sought));
  if (by === null) return rows;
  const { values } = columns[by];
  const sign = down ? -1 : 1;
  return rows.sort((a, b) => (Number.isNaN(values[a]) ? 1 : Number.isNaN(values[b]) ? -1 : sign * (values[a] - values[b])) || a - b);
}

export interface Ordered {
  rows: Rows;
  order: Uint32Array;
  query: string;
  search: (query: string) => void;
  by: number | null; // the column that sorts; null as the result has it
  down: boolean;
  sort: (column: number) => void;
}

/** How a reader has sorted and searched. */
export function useOrder(rows: Rows, sorted: number | null = null): Ordered {
  const [query, search] = useState("");
  const [{ by, down }, setSort] = useState<{ by: number | null; down: boolean }>({ by: sorted, down: true });
  const order = useMemo(() => orderRows(rows, query, by !== null && by < rows.columns.length ? by : null, down), [rows, query, by, down]);
  const sort = (column: number): void => setSort(by === column ? { by, down: !down } : { by: column, down: !rows.columns[column].rising });
  return { rows, order, query, search, by, down, sort };
}

/** Where bars begin and end, as shares of their room, row after row in their order; NaN has none. */
export function barsOf({ values, bar, running }: Column, order: Uint32Array): (at: number) => { from: number; to: number; zero: number } {
  const sums = new Float64Array(order.length + 1);
  if (running) order.forEach((row, at) => (sums[at + 1] = sums[at] + (values[row] || 0)));
  const reach = running ? sums : Float64Array.from(values);
  const low = Math.min(0, reach.reduce((least, value) => Math.min(least, value || 0), 0));
  const high = running ? reach.reduce((most, value) => Math.max(most, value), 0) : bar!;
  const [least, most] = running ? [low, high] : [low < 0 ? -bar! : 0, bar!];
  const share = (value: number): number => Math.max(0, Math.min(1, (value - least) / (most - least || 1)));
  return (at) => {
    const start = sums[at];
    const [from, to] = [start, start + (values[order[at]] || 0)].map(share);
    return { from: Math.min(from, to), to: Math.max(from, to), zero: share(0) };
  };
}

const classOf = ({ bar, running }: Column): string => (running ? "bar running" : bar ? "bar" : "");

function Bar({ from, to, zero, negative }: { from: number; to: number; zero: number; negative: boolean }) {
  return (
    <i>
      {zero > 0 && <u style={{ left: `${zero * 100}%` }} />}
      <i class={negative ? "negative" : ""} style={{ left: `${from * 100}%`, width: `max(1px, ${(to - from) * 100}%)` }} />
    </i>
  );
}

/** One of several tables that stand beside each other, under its name. */
export function NamedTable({ rows, label }: { rows: Rows; label: string }) {
  const ordered = useOrder(rows);
  return (
    <section>
      <h2>{label}</h2>
      <TokenTable {...ordered} label={label} />
    </section>
  );
}

interface TableProps extends Ordered {
  label: string;
  picked?: number | null; // a row
  onPick?: (row: number) => void;
}

export function TokenTable({ rows, order, query, search, by, down, sort, label, picked, onPick }: TableProps) {
  const { noun, texts, ids, columns } = rows;
  const [top, setTop] = useState(0);
  const scroll = useRef<HTMLDivElement>(null);
  const first = Math.max(0, Math.min(Math.floor(top / ROW) - 4, order.length - SHOWN));
  const shown = order.subarray(first, first + SHOWN + 8);
  const bars = useMemo(() => columns.map((column) => (column.bar ? barsOf(column, order) : null)), [columns, order]);
  const template = `minmax(var(--text), 1.2fr) ${ids ? "var(--id) " : ""}${columns.map(({ bar, running }) => (running ? "minmax(80px, 3fr)" : bar ? "minmax(var(--barred), 2fr)" : "minmax(var(--number), 1fr)")).join(" ")}`;
  const find = (text: string): void => {
    search(text);
    scroll.current!.scrollTop = 0;
  };
  return (
    <div class={noun === "token" ? "tokens-table" : "tokens-table long"}>
      <label>
        <input type="search" placeholder={`Find a ${noun}`} aria-label={`Find a ${noun}${ids ? " or an id" : ""}`} value={query} onInput={({ currentTarget }) => find(currentTarget.value)} />
        <span role="status">{order.length < texts.length ? `${count(order.length)} of ${counted(texts.length, noun)}` : counted(texts.length, noun)}</span>
      </label>
      <div class="scroll" ref={scroll} tabIndex={0} role="table" aria-label={label} aria-rowcount={order.length + 1} style={{ maxHeight: `${ROW * (SHOWN + 1)}px` }} onScroll={({ currentTarget }) => setTop(currentTarget.scrollTop)}>
        <div role="row" class="head" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
          <span role="columnheader">{noun}</span>
          {ids && <span role="columnheader" class="id">id</span>}
          {columns.map(({ name }, i) => (
            <span key={name} role="columnheader" class={classOf(columns[i])} aria-sort={by === i ? (down ? "descending" : "ascending") : "none"}>
              <button type="button" onClick={() => sort(i)}>
                {name}
                {by === i && (down ? " ↓" : " ↑")}
              </button>
            </span>
          ))}
        </div>
        <div role="rowgroup" style={{ height: `${ROW * order.length}px` }}>
          {Array.from(shown, (row, i) => (
            <div key={row} role="row" class={row === picked ? "picked" : ""} aria-rowindex={first + i + 2} style={{ gridTemplateColumns: template, top: `${ROW * (first + i)}px` }}>
              <b role="cell" title={shownText(rows, row)}>
                {onPick ? (
                  <button type="button" aria-pressed={row === picked} onClick={() => onPick(row)}>
                    {shownText(rows, row)}
                  </button>
                ) : (
                  shownText(rows, row)
                )}
              </b>
              {ids && <span role="cell" class="id">{ids[row]}</span>}
              {columns.map((column, at) => (
                <span key={column.name} role="cell" class={classOf(column)}>
                  {!column.running && <span>{column.show(column.values[row])}</span>}
                  {column.bar && !Number.isNaN(column.values[row]) && <Bar {...bars[at]!(first + i)} negative={column.values[row] < 0} />}
                </span>
              ))}
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}

/** The first rows, for a file. */
export function tableDrawing({ rows, order }: Pick<Ordered, "rows" | "order">): Drawing {
  const { noun, ids, columns } = rows;
  const shown = order.subarray(0, DRAWN);
  const cut = shown.length < order.length ? `the first ${DRAWN} of ${counted(order.length, noun)}` : "";
  const heads = [noun, ...(ids ? ["id"] : []), ...columns.map(({ name }) => name)];
  const bars = columns.map((column) => (column.bar ? barsOf(column, order) : null));
  const rights: number[] = [];
  let width = 150;
  for (const bar of [...(ids ? [null] : []), ...bars]) {
    rights.push((width += 72));
    if (bar) width += 120;
  }
  const draw = (pen: Pen, { ink, ink2, line, positive, negative }: Palette): void => {
    heads.forEach((name, i) => pen.text(name, i ? rights[i - 1] : 0, 8, ink2, { face: "sans", align: i ? "right" : "left" }));
    pen.box(0, 20, width, 1, line);
    shown.forEach((row, at) => {
      const y = 20 + ROW * (at + 0.5);
      pen.text(fitted(shownText(rows, row), 150), 0, y, ink);
      if (ids) pen.text(String(ids[row]), rights[0], y, ink2, { align: "right" });
      columns.forEach(({ values, show, running }, i) => {
        const right = rights[i + (ids ? 1 : 0)];
        if (!running) pen.text(show(values[row]), right, y, ink, { align: "right" });
        const bar = bars[i]?.(at);
        if (bar) pen.box(right + 8 + bar.from * 112, y - 5, Math.max(1, (bar.to - bar.from) * 112), 10, values[row] < 0 ? negative : positive);
      });
    });
    if (cut) pen.text(cut, 0, 20 + ROW * (shown.length + 0.5), ink2, { face: "sans" });
  };
  return { size: [width, 20 + ROW * (shown.length + Number(cut !== ""))], draw };
}

/** All rows in their order, for CSV. */
export const tableRows = ({ rows: { noun, texts, ids, columns }, order }: Ordered): (string | number)[][] => [
  [noun, ...(ids ? ["id"] : []), ...columns.map(({ name }) => name)],
  ...Array.from(order, (row) => [texts[row], ...(ids ? [ids[row]] : []), ...columns.map(({ values }) => values[row])]),
];

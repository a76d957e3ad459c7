// The logit lens: layers by positions, the best token in each cell. A click opens a cell's tokens, a click on another compares the two.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { percent, plain, signed } from "../numbers.ts";
import { type Cell, type Heat, heatDrawing, isSame, siteLabel, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, either, fieldsOf, listOf, oneCellOf, oneOf } from "./look.ts";
import { FIRST_LEFT_OUT, type Named, present, rangeOf, type Shown, Stand, withoutFirst } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { type Column, type Rows, TokenTable, useOrder } from "./token_table.tsx";
import "./logit_lens.css";

interface Payload extends Named {
  settings: Named["settings"] & { value: string; norm: string; target: string | number; meaning: Record<string, string>; cap: string | null };
  pieces: string[][];
  sites: string[];
  texts: Record<string, string>; // of every token that is named, by its id
}

type Shade = "value" | "best" | "entropy";

interface Chosen {
  shade: Shade;
  text: number;
}

interface Picked {
  text: number;
  cells: Cell[]; // one, or two that are compared
}

/** The lens of one text. */
class Lens {
  readonly pieces: string[];
  private readonly n_rows: number;
  private readonly width: number; // positions, those of longer texts included
  readonly top: number; // tokens kept of a cell

  constructor(
    readonly payload: Payload,
    readonly arrays: Record<string, Tensor>,
    readonly text: number,
  ) {
    this.pieces = payload.pieces[text];
    [, this.n_rows, this.width, this.top] = arrays.token_ids.shape;
  }

  private at = ({ row, column }: Cell): number => (this.text * this.n_rows + row) * this.width + column;
  token = (id: number): string => visiblePiece(this.payload.texts[id] ?? "");
  best = (cell: Cell): string => this.token(this.ids(cell)[0]);
  ids = (cell: Cell): Float32Array => this.arrays.token_ids.data.subarray(this.at(cell) * this.top, (this.at(cell) + 1) * this.top);
  logProbs = (cell: Cell): Float32Array => this.arrays.log_probs.data.subarray(this.at(cell) * this.top, (this.at(cell) + 1) * this.top);
  logits = (cell: Cell): Float32Array => this.arrays.logits.data.subarray(this.at(cell) * this.top, (this.at(cell) + 1) * this.top);
  value = (cell: Cell): number => this.arrays.values.data[this.at(cell)];
  entropy = (cell: Cell): number => this.arrays.entropy.data[this.at(cell)];

  /** What a cell is shaded by. */
  shade(cell: Cell, shade: Shade): number {
    if (shade === "best") return Math.exp(this.logProbs(cell)[0]);
    if (shade === "entropy") return this.entropy(cell);
    return this.payload.settings.value === "rank" ? 1 / (1 + this.value(cell)) : this.value(cell);
  }

  shades(shade: Shade): Float32Array {
    const columns = this.pieces.length;
    return Float32Array.from({ length: this.n_rows * columns }, (_, i) => this.shade({ row: Math.floor(i / columns), column: i % columns }, shade));
  }

  number = (cell: Cell): string => {
    const { value } = this.payload.settings;
    const number = this.value(cell);
    return Number.isNaN(number) ? "no target" : value === "prob" ? percent(number) : value === "rank" ? `rank ${number}` : value === "logit" ? `logit ${signed(number)}` : `${plain(number)} nats`;
  };

  /** What is expected after a column: the target, or else the token that the text goes on with. */
  target = (column: number): string => {
    const id = this.arrays.targets?.data[this.text * this.width + column];
    const token = id === undefined ? visiblePiece(this.pieces[column + 1] ?? "") : id < 0 ? "" : this.token(id);
    return token && `→${token}`;
  };

  heat(steps: Int8Array): Heat {
    const { sites } = this.payload;
    return {
      rows: sites.map((site) => ({ text: siteLabel(site, sites[0]) })),
      columns: this.pieces.map((piece, index) => ({ index, text: visiblePiece(piece), below: this.target(index) })),
      steps,
      upward: true,
      words: this.best,
      width: [60, 96],
      height: 22,
    };
  }

  place = ({ row, column }: Cell): string => `${this.payload.sites[row]} at ${column} ${visiblePiece(this.pieces[column])}`;
}

const SHADES: readonly (readonly [Shade, string])[] = [
  ["best", "the best token's probability"],
  ["entropy", "entropy"],
];

/** What the value of a result is, in a sentence. */
function valueName({ value, target }: Payload["settings"]): string {
  if (value === "entropy" || value === "kl") return value === "kl" ? "KL to the final prediction" : value;
  const whose = { own: "the cell's best token", final: "the final prediction", next: "the next token" }[target] ?? "the chosen token";
  return `${{ prob: "probability", logit: "logit", rank: "rank" }[value]} of ${whose}`;
}

const UNITS: Record<string, string> = { rank: "of 1 / (1 + rank)", entropy: "nats", kl: "nats", logit: "logits", prob: "" };

function LogitLens({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Picked>) {
  const { settings, pieces } = payload;
  const { shade = "value" } = chosen;
  const text = Math.min(picked?.text ?? chosen.text ?? 0, pieces.length - 1);
  const lens = useMemo(() => new Lens(payload, arrays, text), [payload, arrays, text]);
  const shades = useMemo(() => withoutFirst(lens.shades(shade), lens.pieces.length), [lens, shade]);
  const range = rangeOf(shades, scale, shade === "value" ? UNITS[settings.value] : shade === "entropy" ? "nats" : "");
  const heat = useMemo(() => lens.heat(stepsOf(shades, range.limit)), [lens, shades, range.limit]);
  const cells = picked?.text === text ? picked.cells : [];
  const choosePair = (cell: Cell, also: boolean): void => {
    const known = cells.some((other) => isSame(other, cell));
    const kept = known ? cells.filter((other) => !isSame(other, cell)) : also || cells.length === 1 ? [...cells.slice(0, 1), cell] : [cell];
    pick(kept.length ? { text, cells: kept } : null);
  };
  const inside = alone && !tools.cells;
  const options = [["value", valueName(settings)] as const, ...SHADES.filter(([name]) => (name === "best" ? settings.value !== "prob" || settings.target !== "own" : settings.value !== "entropy"))];
  const caption = `Best token of every layer at every position, shaded by ${options.find(([name]) => name === shade)![1]}`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={caption}
      sentence={
        <>
          Show the best token of every layer
          {pieces.length > 1 && (
            <>
              {" "}
              in <Word label="Text" value={String(text)} options={pieces.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => (pick(null), choose({ text: Number(text) }))} />
            </>
          )}
          , shaded by <Word label="Shade" value={shade} options={options} onChange={(shade) => choose({ shade })} />
        </>
      }
      range={{ ...range, scale, each: null, onScale }}
      notes={[`norm: ${settings.meaning.norm}`, settings.cap && `logits ${settings.cap} the cap`, lens.pieces.length > 1 ? FIRST_LEFT_OUT : null]}
      drawing={() => heatDrawing(heat)}
      table={() => [
        ["site", "pos", "token", "best", "best_prob", "entropy", settings.value],
        ...payload.sites.flatMap((site, row) =>
          lens.pieces.map((piece, column) => {
            const cell = { row, column };
            return [site, column, piece, payload.texts[lens.ids(cell)[0]] ?? "", Math.exp(lens.logProbs(cell)[0]), lens.entropy(cell), lens.value(cell)];
          }),
        ),
      ]}
    >
      <div class={inside ? "lens inside" : "lens"}>
        <div>
          <HeatMap
            {...heat}
            label={`${caption}, ${payload.sites.length} layers by ${lens.pieces.length} positions`}
            picked={cells}
            number={(cell) => `${lens.best(cell)} ${lens.number(cell)}`}
            tip={(cell) => ({ piece: lens.best(cell), value: lens.number(cell), facts: [`best ${percent(Math.exp(lens.logProbs(cell)[0]))}`, `entropy ${plain(lens.entropy(cell))} nats`, `after ${cell.column} ${visiblePiece(lens.pieces[cell.column])}`, payload.sites[cell.row]] })}
            onPick={choosePair}
          />
          {alone && cells.length === 1 && <Player lens={lens} cell={cells[0]} onMove={(cell) => pick({ text, cells: [cell] })} />}
        </div>
        {inside && <aside aria-live="polite">{cells.length ? <CellCard lens={lens} cells={cells} onClose={() => pick(null)} /> : <p>A click on a cell opens its tokens, a click on another compares the two.</p>}</aside>}
      </div>
    </Stand>
  );
}

/** The tokens of a cell, or of two beside each other. */
function cellRows(lens: Lens, cells: readonly Cell[]): Rows {
  const ids = [...new Set(cells.flatMap((cell) => [...lens.ids(cell)]))].filter((id) => id >= 0);
  const read = (of: (cell: Cell) => Float32Array, cell: Cell): number[] => ids.map((id) => of(cell)[lens.ids(cell).indexOf(id)] ?? NaN);
  const probs = cells.map((cell) => read(lens.logProbs, cell).map(Math.exp));
  const ratios = cells.length > 1 ? probs[0].map((prob, i) => Math.log(probs[1][i] / prob)) : [];
  const shown = (value: number): string => (Number.isNaN(value) ? "<" : percent(value));
  const columns: Column[] =
    cells.length === 1
      ? [
          { name: "prob", values: probs[0], show: shown, bar: Math.max(...probs[0]) },
          { name: "logit", values: read(lens.logits, cells[0]), show: signed },
        ]
      : [
          { name: "first", values: probs[0], show: shown },
          { name: "second", values: probs[1], show: shown },
          { name: "log ratio", values: ratios, show: (value) => (Number.isNaN(value) ? "" : signed(value)), bar: Math.max(...ratios.map((ratio) => Math.abs(ratio) || 0)) || 1 },
        ];
  return { noun: "token", ids: cells.length === 1 ? ids : undefined, texts: ids.map((id) => lens.payload.texts[id] ?? ""), columns };
}

const WAYS = [
  ["row", "layer"],
  ["column", "position"],
] as const;

/** Goes through layers or positions, by hand or by itself: slower where the prediction is less sure. */
function Player({ lens, cell, onMove }: { lens: Lens; cell: Cell; onMove: (cell: Cell) => void }) {
  const [playing, play] = useState<"row" | "column" | null>(null);
  const last = { row: lens.payload.sites.length - 1, column: lens.pieces.length - 1 };
  const move = useRef(onMove);
  move.current = onMove;
  useEffect(() => {
    if (playing === null) return;
    if (cell[playing] >= last[playing]) return play(null);
    const timer = setTimeout(() => move.current({ ...cell, [playing]: cell[playing] + 1 }), 200 + 200 * lens.entropy(cell));
    return () => clearTimeout(timer);
  }, [playing, lens, cell.row, cell.column]);
  return (
    <div class="player">
      {WAYS.map(([way, name]) => (
        <p key={way}>
          <button
            type="button"
            aria-label={playing === way ? "Stop" : `Play through every ${name}`}
            onClick={() => {
              if (playing !== way && cell[way] >= last[way]) onMove({ ...cell, [way]: 0 });
              play(playing === way ? null : way);
            }}
          >
            {playing === way ? "■" : "▶"}
          </button>
          <label>
            {name} <input type="range" min={0} max={last[way]} value={cell[way]} onInput={({ currentTarget }) => (play(null), onMove({ ...cell, [way]: Number(currentTarget.value) }))} />
          </label>
        </p>
      ))}
    </div>
  );
}

function CellCard({ lens, cells, onClose }: { lens: Lens; cells: readonly Cell[]; onClose: () => void }) {
  const rows = useMemo(() => cellRows(lens, cells), [lens, cells]);
  const ordered = useOrder(rows);
  return (
    <>
      <h2>
        {cells.map(lens.place).join(", then ")}
        <button type="button" aria-label="Close" onClick={onClose}>
          ×
        </button>
      </h2>
      <p>
        {cells.length === 1
          ? `${lens.number(cells[0])}, entropy ${plain(lens.entropy(cells[0]))} nats; the ${lens.top} best tokens were kept`
          : `entropy ${plain(lens.entropy(cells[0]))}, then ${plain(lens.entropy(cells[1]))} nats; of each cell the ${lens.top} best tokens were kept, "<" is below them`}
      </p>
      <TokenTable {...ordered} label="Tokens of the cell" />
    </>
  );
}

export default present(LogitLens, ({ pieces, sites }) => ({
  chosen: { shade: oneOf("value", "best", "entropy"), text: below(pieces.length) },
  picked: either(...pieces.map(({ length }, text) => fieldsOf({ text: oneOf(text), cells: listOf(oneCellOf(sites.length, length), 2) }))),
  onward: ({ cells }) => ({ cells: cells.map(({ row, column }) => ({ site: sites[row], pos: column })) }),
}));

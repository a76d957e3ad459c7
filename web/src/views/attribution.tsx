// Direct attribution: what each part gives to a metric, as bars that add up to it.

import { useMemo } from "preact/hooks";
import { signed } from "../numbers.ts";
import { Word } from "./legend.tsx";
import { allOf, below, fieldsOf } from "./look.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { type Column, type Rows, tableDrawing, tableRows, TokenTable, useOrder } from "./token_table.tsx";

interface Payload extends Named {
  parts: Record<string, Record<string, number>>; // sizes of the axes of the parts of each name, in the order of the values
  pieces: string[][];
  settings: Named["settings"] & { metric: string; unit: string; rounding: number; before_cap: number | null; meaning: Record<string, string> };
}

interface Chosen {
  text: number;
}

interface Picked {
  part: number; // in the order of the values
}

const MANY = 200; // parts: beyond them the largest come first

/** "head.3.1", "source.3.1 ← 5 ·upon": every part of one text, in the order of the values. */
export function namesOf(parts: Payload["parts"], pieces: readonly string[]): string[] {
  return Object.entries(parts).flatMap(([part, sizes]) => {
    const axes = Object.keys(sizes);
    const places = axes.reduce<number[][]>((found, axis) => found.flatMap((place) => Array.from({ length: sizes[axis] }, (_, i) => [...place, i])), [[]]);
    return places.map((place) => {
      const key = axes.indexOf("key");
      const own = key < 0 ? place : place.toSpliced(key, 1);
      return [part, ...own].join(".") + (key < 0 ? "" : ` ← ${place[key]} ${visiblePiece(pieces[place[key]] ?? "")}`);
    });
  });
}

function Attribution({ payload, arrays, alone, tools, chosen, choose, picked, pick }: Shown<Payload, Chosen, Picked>) {
  const { settings, pieces, parts } = payload;
  const { text = 0 } = chosen;
  const { shape, data } = arrays.values;
  const { rows, there } = useMemo((): { rows: Rows; there: number[] } => {
    const values = data.subarray(text * shape[1], (text + 1) * shape[1]);
    const names = namesOf(parts, pieces[text]);
    const there = Array.from(values.keys()).filter((i) => !Number.isNaN(values[i])); // not what is padding
    const own = Float32Array.from(there, (i) => values[i]);
    const most = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    const columns: Column[] = [
      { name: "gives", values: own, show: signed, bar: most },
      { name: "adding up", values: own, show: () => "", bar: most, running: true },
    ];
    return { rows: { noun: "part", texts: there.map((i) => names[i]), columns }, there };
  }, [arrays, text]);
  const { values } = rows.columns[0];
  const ordered = useOrder(rows, values.length > MANY ? 0 : null);
  const sum = Array.from(values).reduce((sum, value) => sum + value, 0);
  const metric = arrays.metric_values.data[text];
  const total = `${settings.metric}: the parts sum to ${signed(sum)} ${settings.unit}${settings.before_cap ? `, before the cap; after it ${signed(metric)}` : ""}`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={total}
      sentence={
        pieces.length > 1 && (
          <>
            Show what adds up in <Word label="Text" value={String(text)} options={pieces.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
          </>
        )
      }
      notes={[total, `to within ${settings.rounding.toPrecision(1)}`, "blue raises the metric, red lowers it"]}
      drawing={() => tableDrawing(ordered)}
      table={() => tableRows(ordered)}
    >
      <TokenTable {...ordered} label={payload.name} picked={picked && there.indexOf(picked.part)} onPick={hasHeads(parts) ? (row) => pick(there[row] === picked?.part ? null : { part: there[row] }) : undefined} />
    </Stand>
  );
}

const OF_HEADS = /^(?:head|source)\.(\d+)\.(\d+)/;
const hasHeads = (parts: Payload["parts"]): boolean => "head" in parts || "source" in parts;

export default present(Attribution, ({ parts, pieces }, { values: { shape } }) => ({
  chosen: { text: below(pieces.length) },
  picked: allOf(() => hasHeads(parts), fieldsOf({ part: below(shape[1]) })),
  onward({ part }) {
    const [, layer, head] = OF_HEADS.exec(namesOf(parts, [])[part]) ?? [];
    return { heads: head === undefined ? [] : [{ layer: Number(layer), head: Number(head) }] };
  },
}));
